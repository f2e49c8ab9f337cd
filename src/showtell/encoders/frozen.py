"""Features by an encoder that does not learn, as fast as its network can: the same numbers up to rounding.

- Its backbone is simplified (torchvision's: `folding.py`).
- On a processor a few images at a time: the maps of more would not fit its cache.
"""

import copy

import torch
from torch import Tensor

from showtell.core.precision import Precision, autocast, device
from showtell.encoders.network import Encoder

ON_PROCESSOR, ON_ACCELERATOR = 16, 128  # images in the network together


class FrozenEncoder:
    """Images in, features out, by an encoder as it is now."""

    def __init__(self, encoder: Encoder, precision: Precision):
        self._encoder, self._precision = copy.deepcopy(encoder).eval().to(device()), precision
        self._encoder.backbone = self._encoder.backbone.simplified()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (image, 3, height, width), in any memory -> features as the encoder's, on the device."""
        where = device()
        parts = images.split(ON_PROCESSOR if where.type == "cpu" else ON_ACCELERATOR)
        with autocast(self._precision):
            return torch.cat([self._encoder(part.to(where, non_blocking=True)) for part in parts])
