"""Self-check of features: tests on a few images, before all are encoded, that features are what decoders expect.

The mistakes that it detects have spoilt published results: maps read in the wrong layout, position embeddings left at
zero after a change of size, half precision that does not suit the weights.
"""

from math import isqrt

import torch
from torch import Tensor

from showtell.core.arrays import evenly_spaced
from showtell.core.errors import UserError
from showtell.core.precision import Precision
from showtell.core.progress import log
from showtell.data.store import RowReader
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder

PICTURES = 16  # images that are tested: enough for means over them
SAME = 1e-4  # relative: fp32 rounding, sums in another order
MOVED = 0.01  # the two correlations of trained networks differ by 0.4, of random ones by 0.02 and more; else by chance
HALF = 0.95  # lowest cosine similarity of half to single precision features


def some_images(store: RowReader) -> Tensor:
    """Images spread evenly over a store, uint8 (image, 3, height, width)."""
    return torch.from_numpy(store.rows(evenly_spaced(len(store), PICTURES).tolist()))


def check_features(encoder: Encoder, images: Tensor, precision: Precision) -> None:
    """Log a line for each check of `encoder` on uint8 (image, 3, height, width); `UserError` where one fails."""
    frozen = FrozenEncoder(encoder, "fp32")
    features = frozen(images).float()
    if not features.isfinite().all():
        raise UserError(f"self-check: {encoder.name} gives values that are not finite; its weights are damaged")
    log(f"self-check: values are finite, {features.min():.3g} to {features.max():.3g}")
    if encoder.gives_grid and encoder.cells > 1 and len(images) > 1:
        log(f"self-check: {_cells_differ(features, encoder.name)}")
        if isqrt(encoder.cells) ** 2 != encoder.cells:
            raise UserError(
                f"self-check: {encoder.name} gives {encoder.cells} cells, which are no square; name a layer that has a "
                "map (encoder.node)"
            )
        log(f"self-check: {_cells_move(frozen, encoder, images)}")
    used = FrozenEncoder(encoder, precision)(images).float()
    cosine = torch.cosine_similarity(used.flatten(1), features.flatten(1)).mean().item()
    if not cosine >= HALF:
        raise UserError(
            f"self-check: features with encoder.precision = {precision} have cosine {cosine:.4f} with those in single "
            "precision; set it to fp32"
        )
    log(f"self-check: as used (precision {precision}) they have cosine {cosine:.5f} with single precision")


def _cells_differ(features: Tensor, name: str) -> str:
    """Standard deviation over the cells of an image, as a fraction of the features' magnitude."""
    spread = (features.std(dim=1).square().mean().sqrt() / features.square().mean().sqrt()).item()
    if not spread > SAME:
        raise UserError(f"self-check: all cells of a picture have the same features; {name} cannot give a grid")
    return f"cells of a picture differ, by {spread:.0%} of the values' size"


def _cells_move(frozen: FrozenEncoder, encoder: Encoder, images: Tensor) -> str:
    """Compares cells after swapping halves between images: a cell resembles its neighbours in its own half only."""
    side, width = isqrt(encoder.cells), images.shape[3]
    cells, pixels = side // 2, round(side // 2 * width / side)
    mixed = torch.cat([images[..., : width - pixels], images.roll(1, dims=0)[..., width - pixels :]], dim=3)
    shifted = mixed.roll(pixels, dims=3)  # pixels shifted out on the right enter on the left
    maps, moved = (frozen(x).float().unflatten(1, (side, side)) for x in (mixed, shifted))  # (image, row, column, ...)
    back = moved.roll(-cells, dims=2)
    embedded = any("pos_embed" in name for name, _ in encoder.named_parameters())
    if embedded and (back - maps).abs().max() <= SAME * maps.abs().max():
        raise UserError(
            f"self-check: {encoder.name} sees no places, a shifted picture gives the same cells to the last digit: its "
            "position embeddings are zero (after a change of size?)"
        )
    sideways, upwards = _likeness(back, maps), _likeness(moved.roll(-cells, dims=1), maps)
    if not sideways > upwards + MOVED:
        raise UserError(
            f"self-check: cells do not move with a picture that is shifted sideways (correlation {sideways:.2f} with "
            f"those beside them, {upwards:.2f} with those above): the map of {encoder.name} is read in a wrong order"
        )
    return f"cells move with a shifted picture (correlation {sideways:.2f} sideways, {upwards:.2f} upwards)"


def _likeness(one: Tensor, other: Tensor) -> float:
    """Mean correlation over images and cells, after subtracting each cell's mean over the images."""
    one, other = one - one.mean(dim=0), other - other.mean(dim=0)
    return torch.cosine_similarity(one, other, dim=-1).mean().item()
