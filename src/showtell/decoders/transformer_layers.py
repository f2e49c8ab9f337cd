"""The layers of a pre-norm transformer: x + sublayer(norm(x)).

Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), sections 3.1 to 3.3. Shapes as in `interface.py`, with head
the attention heads, part hidden / head, and place a query position (a step of a caption, a beam, a cell).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.core.precision import wide


def by_head(x: Tensor, heads: int) -> Tensor:
    """(..., place, hidden) -> (..., head, place, part)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def together(x: Tensor) -> Tensor:
    """`by_head` undone."""
    return x.transpose(-2, -3).flatten(-2)


def attend(query: Tensor, keys_values: Tensor, heads: int, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Scaled dot-product attention: query (row, place, hidden), keys_values (row, entry, 2 hidden) -> as `query`.

    `mask` (row, 1, place, entry) is True where a place may attend; `causal`: each to itself and those before.
    """
    keys, values = (by_head(x, heads) for x in keys_values.chunk(2, dim=-1))
    attended = functional.scaled_dot_product_attention(by_head(query, heads), keys, values, mask, is_causal=causal)
    return together(attended)


def attend_and_show(query: Tensor, keys_values: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """The output of `attend` without a mask, and the attention weights (row, head, place, entry), float32."""
    keys, values = (by_head(x, heads) for x in keys_values.chunk(2, dim=-1))
    scores = by_head(query, heads) @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])
    weights = functional.softmax(wide(scores), dim=-1)
    return together(weights.to(values.dtype) @ values), weights


class FeedForward(nn.Sequential):
    """The position-wise feed-forward sublayer: (..., hidden) -> (..., hidden)."""

    def __init__(self, hidden: int, feed_forward: int, dropout: float):
        super().__init__(
            nn.LayerNorm(hidden), nn.Linear(hidden, feed_forward), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(feed_forward, hidden), nn.Dropout(dropout),
        )  # fmt: skip


class GridLayer(nn.Module):
    """Self-attention over cells and, if there are any, `memory_slots` learned keys and values.

    The slots can hold knowledge that does not depend on the image: Cornia et al., "Meshed-Memory Transformer for Image
    Captioning" (CVPR 2020), section 3.1, scaled as in their code.
    """

    def __init__(self, hidden: int, heads: int, feed_forward: int, dropout: float, memory_slots: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden)
        self.query, self.key_value = nn.Linear(hidden, hidden), nn.Linear(hidden, 2 * hidden)
        self.memory = None
        if memory_slots:
            self.memory = nn.Parameter(torch.randn(memory_slots, 2 * hidden))  # keys, values
            with torch.no_grad():
                self.memory[:, :hidden] /= math.sqrt(hidden // heads)
                self.memory[:, hidden:] /= math.sqrt(memory_slots)
        self.output, self.dropout = nn.Linear(hidden, hidden), nn.Dropout(dropout)
        self.feed_forward = FeedForward(hidden, feed_forward, dropout)

    def forward(self, grid: Tensor) -> Tensor:
        """(image, cell, hidden) -> (image, cell, hidden)."""
        x = self.norm(grid)
        keys_values = self.key_value(x)  # (image, cell, 2 hidden)
        if self.memory is not None:
            slots = self.memory.to(keys_values.dtype).expand(len(grid), -1, -1)
            keys_values = torch.cat([keys_values, slots], dim=1)  # (image, cell + slot, 2 hidden)
        grid = grid + self.dropout(self.output(attend(self.query(x), keys_values, self.heads)))
        return grid + self.feed_forward(grid)


class WordLayer(nn.Module):
    """Causal self-attention over words, then cross-attention to the grid."""

    def __init__(self, hidden: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.word_norm, self.word_query_key_value = nn.LayerNorm(hidden), nn.Linear(hidden, 3 * hidden)
        self.word_output = nn.Linear(hidden, hidden)
        self.grid_norm, self.grid_query = nn.LayerNorm(hidden), nn.Linear(hidden, hidden)
        self.grid_key_value = nn.Linear(hidden, 2 * hidden)
        self.grid_output = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(hidden, feed_forward, dropout)

    def forward(
        self, x: Tensor, attend_words: Callable[[Tensor], Tensor], attend_grid: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """x (..., hidden) -> (..., hidden).

        `attend_words` takes query, key and value of every word, (..., 3 hidden), `attend_grid` every word's query,
        (..., hidden); both return the attended values, (..., hidden).
        """
        words = attend_words(self.word_query_key_value(self.word_norm(x)))
        x = x + self.dropout(self.word_output(words))
        x = x + self.dropout(self.grid_output(attend_grid(self.grid_query(self.grid_norm(x)))))
        return x + self.feed_forward(x)
