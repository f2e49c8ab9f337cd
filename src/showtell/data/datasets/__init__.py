"""The sources of images and captions; every source yields the same Karpathy-style records."""
