"""Features from a frozen encoder, as fast as its network allows: the same output up to rounding.

- Its backbone is simplified (`folding.py`).
- On a processor it takes few images at a time, the fewer the larger they are: maps of more would not fit the cache.
"""

import copy

import torch
from torch import Tensor

from showtell.core.precision import Precision, autocast, device
from showtell.encoders.network import Encoder

ON_PROCESSOR = 16 * 128 * 128  # pixels of all images of a forward pass
ON_ACCELERATOR = 128  # images of a forward pass


class FrozenEncoder:
    """Maps images to features with an encoder in its present state."""

    @torch.inference_mode(False)  # whoever makes it: a network whose gradients can be followed is simplified further
    def __init__(self, encoder: Encoder, precision: Precision):
        self._encoder, self._precision = copy.deepcopy(encoder).eval().to(device()), precision
        self._encoder.backbone = self._encoder.backbone.simplified()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (image, 3, height, width), in any memory -> features as the encoder gives them, on the device."""
        where = device()
        height, width = images.shape[2:]
        parts = images.split(max(1, ON_PROCESSOR // (height * width)) if where.type == "cpu" else ON_ACCELERATOR)
        with autocast(self._precision):
            return torch.cat([self._encoder(part.to(where, non_blocking=True)) for part in parts])
