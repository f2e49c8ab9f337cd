"""Attention over a grid of another size than the encoder's, without ever making that grid.

Average pooling to rows x rows cells is linear: pooled = weights @ grid, whatever the channels hold. So a projection of
the pooled grid is the pooled projection, and a weighted sum over pooled cells is one over the encoder's own cells with
weights that were pooled back. An 8 x 8 grid stands for the 14 x 14 one that the show-attend-tell tutorials store, in a
third of the space and of the arithmetic.
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
        raise UserError(f"decoder.grid = {rows}: the encoder's grid of {cells} cells is no square; set it to null")
    with torch.inference_mode(False):  # it is kept, and must do for training as well
        each_cell = torch.eye(cells).view(cells, 1, side, side)
        pooled = functional.adaptive_avg_pool2d(each_cell, rows)  # (cell, 1, row, column)
        return pooled.flatten(1).T.contiguous().to(device)
