"""Training: the loop, its checkpoints, losses, validation."""
