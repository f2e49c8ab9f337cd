"""Reading checkpoints of well-known tutorials as bundles, without running code in them."""
