"""Attention over a pooled grid that is never computed.

Average pooling to rows x rows cells is linear: pooled = weights @ grid, whatever the channels contain. So a projection
of the pooled grid is the pooled projection, and a weighted sum over pooled cells is a weighted sum over the encoder's
own cells, with the weights multiplied by the pooling matrix. An 8 x 8 grid replaces the 14 x 14 grid that the
show-attend-tell tutorials store, with a third of the storage and arithmetic.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from showtell.core.errors import UserError


@lru_cache(maxsize=8)
def pooling_weights(cells: int, rows: int, device: torch.device) -> Tensor:
    """(pooled cell, cell): adaptive average pooling of a square grid of `cells` to rows x rows; each row sums to 1."""
    side = round(cells**0.5)
    if side * side != cells:
        raise UserError(f"decoder.grid = {rows}: the encoder's grid of {cells} cells is not square; set it to null")
    with torch.inference_mode(False):  # the matrix is cached, and used in training as well
        each_cell = torch.eye(cells).view(cells, 1, side, side)
        pooled = functional.adaptive_avg_pool2d(each_cell, rows)  # (cell, 1, row, column)
        return pooled.flatten(1).T.contiguous().to(device)
