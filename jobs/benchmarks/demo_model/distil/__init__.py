"""Distillation of the embedded model: 50 steps with guidance become 4 without, as a LoRA."""
