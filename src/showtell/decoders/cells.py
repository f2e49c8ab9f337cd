"""Recurrent cells whose gates come in parts: what does not depend on the state is computed before the loop.

gates = input_gates + hidden_gates, each (..., gate) with PyTorch's order of gates and its weights, so published
weights fit. The arithmetic of the gates themselves is float32 under autocast.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LSTMCell(nn.LSTMCell):
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""

    carried = 2  # tensors that make its state: hidden, cell

    def advance(self, input_gates: Tensor, hidden_gates: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The next state (hidden, cell), each (..., hidden)."""
        enter, forget, candidate, leave = (input_gates + hidden_gates).float().chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class GRUCell(nn.GRUCell):
    """Cho et al. (2014), the reset gate applied after the product, as cuDNN and PyTorch do."""

    carried = 1

    def advance(self, input_gates: Tensor, hidden_gates: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The next state (hidden,), (..., hidden)."""
        reset, update, candidate = input_gates.float().chunk(3, dim=-1)
        reset_hidden, update_hidden, candidate_hidden = hidden_gates.float().chunk(3, dim=-1)
        keep = torch.sigmoid(update + update_hidden)
        candidate = torch.tanh(candidate + torch.sigmoid(reset + reset_hidden) * candidate_hidden)
        return ((1 - keep) * candidate + keep * state[0],)


CELLS: dict[str, type[LSTMCell] | type[GRUCell]] = {"lstm": LSTMCell, "gru": GRUCell}


class UpperLayers(nn.Module):
    """The layers above the first: each takes the hidden state of the one below, with dropout in between.

    Zaremba et al., "Recurrent Neural Network Regularization" (2014): dropout on what goes up, not on what goes on.
    """

    def __init__(self, kind: str, layers: int, hidden: int, dropout: float):
        super().__init__()
        self.cells = nn.ModuleList(CELLS[kind](hidden, hidden) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, below: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`below` (..., hidden), `state` of all these layers one after the other -> their next states, likewise."""
        after: tuple[Tensor, ...] = ()
        for number, cell in enumerate(self.cells):
            own = state[number * cell.carried : (number + 1) * cell.carried]
            input_gates = functional.linear(self.dropout(below), cell.weight_ih, cell.bias_ih)
            hidden_gates = functional.linear(own[0], cell.weight_hh, cell.bias_hh)
            own = cell.advance(input_gates, hidden_gates, own)
            after, below = after + own, own[0]
        return after
