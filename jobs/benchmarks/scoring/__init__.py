"""How well scores tell faults of clips: known faults, planted into made clips."""
