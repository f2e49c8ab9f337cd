"""How networks learn: the loop, its checkpoints, what is minimised, validation."""
