"""From images to features: backbones, weights, freezing, stored features, word detection."""
