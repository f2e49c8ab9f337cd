"""Low-rank bilinear pooling: what one place shows times what the whole grid holds (Kim et al., "Hadamard Product for
Low-rank Bilinear Pooling", ICLR 2017, section 3).

Whether "two" is the word to say depends on both together: on the kind that is attended to, and on how many of that kind
the grid holds. A sum of what each says alone cannot express that.
"""

import torch
from torch import Tensor, nn


class SummaryProduct(nn.Module):
    """Adds to the hidden state before the vocabulary layer. The part that does not change from word to word, `whole`,
    is computed once for each image."""

    def __init__(self, channels: int, summary: int, hidden: int):
        super().__init__()
        self.normalise = nn.LayerNorm(summary)
        self.whole = nn.Linear(summary, hidden)
        self.context = nn.Linear(channels, hidden)
        self.state = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, hidden, bias=False)

    def of_image(self, summary: Tensor) -> Tensor:
        """The whole grid's factor, from the summary (image, summary): (image, hidden)."""
        return self.whole(self.normalise(summary))

    def forward(self, state: Tensor, context: Tensor, whole: Tensor) -> Tensor:
        """From the recurrent state (..., hidden), the context (..., channel) and the grid's factor (..., hidden), which
        broadcasts over them: (..., hidden)."""
        return self.output(torch.tanh(self.context(context) + self.state(state)) * whole)
