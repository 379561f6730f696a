"""What trainers read beside the mp4: the latents and the text embeddings of clips, as safetensors.

Takes them from a pipeline's call, says how they are scaled, stores and checks their files. Knows
neither rows nor exports.
"""
