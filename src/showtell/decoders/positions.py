"""Position encodings: steps (...) ints, from 0 -> (..., hidden)."""

import math

import torch
from torch import Tensor, nn

# Rows of learned positions: `<start>` and the longest caption that vocab.max_length allows.
LONGEST = 1001


class SinusoidalPositions(nn.Module):
    """Sines and cosines of decreasing frequency, interleaved; not learned. Vaswani et al. (2017), section 3.5."""

    rates: Tensor

    def __init__(self, hidden: int):
        super().__init__()
        self.hidden = hidden
        rates = torch.exp(torch.arange(0, hidden, 2) * (-math.log(10000.0) / hidden))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        angles = steps.unsqueeze(-1) * self.rates  # (..., half of hidden)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., : self.hidden]


class LearnedPositions(nn.Embedding):
    """A learned vector for each step; steps beyond the last row share the last row."""

    def __init__(self, hidden: int):
        super().__init__(LONGEST, hidden)
        nn.init.normal_(self.weight, std=math.sqrt(0.5))  # the root mean square of sines and cosines

    def forward(self, steps: Tensor) -> Tensor:
        return super().forward(steps.clamp(max=LONGEST - 1))


POSITIONS: dict[str, type[SinusoidalPositions] | type[LearnedPositions]] = {
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
}
