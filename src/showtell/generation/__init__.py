"""From features to captions: search over a step function, the bundle, the captioner, and export."""
