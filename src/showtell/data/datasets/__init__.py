"""Where pictures and captions come from; every source ends in the same Karpathy-style records."""
