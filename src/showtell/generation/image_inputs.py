"""The kinds of images that `Captioner.caption` takes."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from showtell.core.errors import UserError
from showtell.core.terminal import one_line

Picture = Path | str | bytes | Image.Image | np.ndarray | Tensor


def is_single(images: Any) -> bool:
    """Whether `images` is a single image instead of a sequence."""
    single = isinstance(images, Path | str | bytes | bytearray | memoryview | Image.Image) or hasattr(images, "read")
    return single or getattr(images, "ndim", 4) < 4


def as_picture(image: Picture) -> Any:
    """A tensor (3 or 1, height, width) or array as a uint8 array (height, width[, 3]); anything else unchanged."""
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # NumPy has no bfloat16
        if image.dim() == 3 and image.shape[0] not in (1, 3):
            raise UserError(f"an image tensor must be (3, height, width), not {tuple(image.shape)}")
        image = (image.permute(1, 2, 0) if image.dim() == 3 else image).numpy()
    if not isinstance(image, np.ndarray):
        if image is None or isinstance(image, int | float | list | tuple | dict):
            kinds = "a path, a file's bytes, a Pillow image, an array or a tensor"
            raise UserError(f"an image is {kinds}, not {one_line(image)}")
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if np.issubdtype(image.dtype, np.floating):
        if image.size and not (image.min() >= 0 and image.max() <= 1):
            raise UserError(
                "an image of floating point numbers must hold 0 to 1; normalised ones must be given before that"
            )
        image = np.rint(image * 255).astype(np.uint8)
    return image
