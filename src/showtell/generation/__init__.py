"""From features to captions: search over a step function, and the bundle that people use."""
