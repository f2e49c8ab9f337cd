"""Checkpoints of well-known tutorials read as bundles, without running anything in them."""
