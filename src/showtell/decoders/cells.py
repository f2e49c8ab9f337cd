"""LSTM and GRU cells whose gates are computed in two parts: the part that does not depend on the state, before the
loop.

gates = input_gates + hidden_gates, each (..., gate), with PyTorch's order of gates and its weights, so that published
weights fit. The gates' nonlinearities are computed in float32 under autocast.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from showtell.core.precision import wide
from showtell.decoders.word_layers import WordParams


class RecurrentParams(WordParams):
    """Keys that all recurrent decoders read."""

    cell: Literal["lstm", "gru"] = Field(description="recurrent cell", examples=["lstm"])
    layers: int = Field(ge=1, le=8, description="recurrent layers, one on top of the other", examples=[1])


class LSTMCell(nn.LSTMCell):
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000)."""

    carried = 2  # tensors of its state: hidden, cell

    @staticmethod
    def run(input_gates: Tensor, hidden_gates: Tensor, state: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Any]:
        """The next state (hidden, cell), each (..., hidden), and what `back` needs."""
        enter, forget, candidate, leave = wide(input_gates + hidden_gates).chunk(4, dim=-1)
        enter, forget, leave = torch.sigmoid(enter), torch.sigmoid(forget), torch.sigmoid(leave)
        candidate = torch.tanh(candidate)
        cell = forget * state[1] + enter * candidate
        bounded = torch.tanh(cell)
        return (leave * bounded, cell), (enter, forget, candidate, leave, bounded, state[1])

    @staticmethod
    def back(kept: Any, grads: Sequence[Tensor]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """Gradients of input gates, hidden gates and the previous state, from those of the next state.

        The gradient of the previous hidden state is None where it acts through the hidden gates alone.
        """
        enter, forget, candidate, leave, bounded, before = kept
        grad_cell = grads[1] + grads[0] * leave * (1 - bounded * bounded)
        gates = torch.cat(
            [
                grad_cell * candidate * enter * (1 - enter),
                grad_cell * before * forget * (1 - forget),
                grad_cell * enter * (1 - candidate * candidate),
                grads[0] * bounded * leave * (1 - leave),
            ],
            dim=-1,
        )
        return gates, gates, (None, grad_cell * forget)


class GRUCell(nn.GRUCell):
    """Cho et al. (2014), the reset gate applied after the product, as cuDNN and PyTorch do."""

    carried = 1

    @staticmethod
    def run(input_gates: Tensor, hidden_gates: Tensor, state: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Any]:
        """The next state (hidden,), (..., hidden), and what `back` needs."""
        reset, update, candidate = wide(input_gates).chunk(3, dim=-1)
        reset_hidden, update_hidden, candidate_hidden = wide(hidden_gates).chunk(3, dim=-1)
        reset, keep = torch.sigmoid(reset + reset_hidden), torch.sigmoid(update + update_hidden)
        candidate = torch.tanh(candidate + reset * candidate_hidden)
        return ((1 - keep) * candidate + keep * state[0],), (reset, keep, candidate, candidate_hidden, state[0])

    @staticmethod
    def back(kept: Any, grads: Sequence[Tensor]) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        """As for the LSTM; the previous hidden state also acts directly."""
        reset, keep, candidate, candidate_hidden, before = kept
        grad_candidate = grads[0] * (1 - keep) * (1 - candidate * candidate)
        grad_reset = grad_candidate * candidate_hidden * reset * (1 - reset)
        grad_keep = grads[0] * (before - candidate) * keep * (1 - keep)
        input_gates = torch.cat([grad_reset, grad_keep, grad_candidate], dim=-1)
        hidden_gates = torch.cat([grad_reset, grad_keep, grad_candidate * reset], dim=-1)
        return input_gates, hidden_gates, (grads[0] * keep,)


CELLS: dict[str, type[LSTMCell] | type[GRUCell]] = {"lstm": LSTMCell, "gru": GRUCell}


class UpperLayers(nn.Module):
    """The layers above the first: each takes the hidden state of the layer below, with dropout in between.

    Zaremba et al., "Recurrent Neural Network Regularization" (2014): dropout between layers, not between steps.
    """

    def __init__(self, kind: str, layers: int, hidden: int, dropout: float):
        super().__init__()
        self.cells = nn.ModuleList(CELLS[kind](hidden, hidden) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, below: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`below` (..., hidden), `state` of all these layers, concatenated -> their next states, concatenated."""
        after: tuple[Tensor, ...] = ()
        for number, cell in enumerate(cast(Iterable[LSTMCell | GRUCell], self.cells)):
            own = state[number * cell.carried : (number + 1) * cell.carried]
            input_gates = functional.linear(self.dropout(below), cell.weight_ih, cell.bias_ih)
            hidden_gates = functional.linear(own[0], cell.weight_hh, cell.bias_hh)
            own, _ = cell.run(input_gates, hidden_gates, own)
            after, below = after + own, own[0]
        return after
