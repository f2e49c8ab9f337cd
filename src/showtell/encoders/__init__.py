"""From images to features: networks, weights, freezing, cached features, word detection."""
