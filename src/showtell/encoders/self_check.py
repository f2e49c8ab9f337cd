"""Self-check of features: tests on a few images, before all are encoded, that features are what decoders expect.

The mistakes that it detects have spoilt published results: maps read in the wrong layout, position embeddings left at
zero after a change of size, half precision that does not suit the weights.
"""

from collections.abc import Sequence
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
LEAST_SIDE = 3  # of smaller maps every cell is at a border, where padding changes it
UNTRAINED = " (networks without trained weights can do that: encoder.weights, or pretrain.enabled: true)"
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
    _fit_store(features, encoder.name)
    _has_places(encoder)
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


def _fit_store(features: Tensor, name: str) -> None:
    """`UserError` where float16, in which features are stored, cannot hold them."""
    stored, largest = features.half(), features.abs().max().item()
    if not stored.isfinite().all():
        raise UserError(f"self-check: {name} gives values of up to {largest:.3g}, too large for float16 (65504)")
    if not stored.any():
        raise UserError(
            f"self-check: the largest value that {name} gives is {largest:.3g}, 0 in float16{UNTRAINED}"
        )


def _has_places(encoder: Encoder) -> None:
    """`UserError` where position embeddings are zero; a network that also has convolutions sees the borders all the
    same."""
    for name, parameter in encoder.named_parameters():
        if name.endswith("pos_embed") and not parameter.any():
            raise UserError(
                f"self-check: the position embeddings of {encoder.name} are zero (without trained weights, or after a "
                "change of size?)"
            )


def _cells_differ(features: Tensor, name: str) -> str:
    """Standard deviation over the cells of an image, as a fraction of the features' magnitude."""
    spread = (features.std(dim=1).square().mean().sqrt() / features.square().mean().sqrt()).item()
    if not spread > SAME:
        raise UserError(
            f"self-check: all cells of a picture have the same features, so that {name} cannot give a grid{UNTRAINED}"
        )
    return f"cells of a picture differ, by {spread:.0%} of the values' size"


def _cells_move(frozen: FrozenEncoder, encoder: Encoder, images: Tensor) -> str:
    """Compares cells after swapping halves between images: a cell resembles its neighbours in its own half only."""
    side, cells = isqrt(encoder.cells), isqrt(encoder.cells) // 2
    width = _width_seen(encoder, images.shape[3], side)
    pixels = round(cells * width / side)
    other = images.roll(1, dims=0)
    parts = images[..., : width - pixels], other[..., width - pixels : width], images[..., width:]
    mixed = torch.cat(parts, dim=3)
    shifted = torch.cat([parts[1], parts[0], parts[2]], dim=3)  # what is shifted out on the right enters on the left
    maps, moved = (frozen(x).float().unflatten(1, (side, side)) for x in (mixed, shifted))  # (image, row, column, ...)
    back = moved.roll(-cells, dims=2)
    embedded = any("pos_embed" in name for name, _ in encoder.named_parameters())
    if embedded and (back - maps).abs().max() <= SAME * maps.abs().max():
        raise UserError(
            f"self-check: {encoder.name} sees no places, a shifted picture gives the same cells to the last digit: its "
            "position embeddings are zero (after a change of size?)"
        )
    sideways, upwards = _likeness(back, maps), _likeness(moved.roll(-cells, dims=1), maps)
    if side < LEAST_SIDE:
        return f"a map of {side} x {side} cells is too small to see whether they move with a picture"
    if not sideways > upwards + MOVED:
        raise UserError(
            f"self-check: cells do not move with a picture that is shifted sideways (correlation {sideways:.2f} with "
            f"those beside them, {upwards:.2f} with those above): the map of {encoder.name} is read in a wrong order"
            + UNTRAINED
        )
    return f"cells move with a shifted picture (correlation {sideways:.2f} sideways, {upwards:.2f} upwards)"


def _width_seen(encoder: Encoder, width: int, side: int) -> int:
    """The pixels of a row that a map of `side` columns looks at: whole patches, of networks that cut images into such
    and ignore what is left over."""
    patch = getattr(getattr(encoder.backbone.network, "patch_embed", None), "patch_size", None)
    patch = patch[-1] if isinstance(patch, Sequence) else patch
    return side * patch if isinstance(patch, int) and side == width // patch else width


def _likeness(one: Tensor, other: Tensor) -> float:
    """Mean correlation over images and cells, after subtracting each cell's mean over the images."""
    one, other = one - one.mean(dim=0), other - other.mean(dim=0)
    return torch.cosine_similarity(one, other, dim=-1).mean().item()
