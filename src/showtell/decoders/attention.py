"""Show, attend and tell: a recurrent network that looks at a part of the image before each word.

Xu et al., "Show, Attend and Tell" (ICML 2015), section 3, soft attention (4.2). Shapes as in `interface.py`, with
channel the grid's, key the attention's hidden size, hidden the recurrent state's, gate all gates of the cell.

The published step-by-step form computes the same numbers slowly. Here what does not depend on the step is computed
once: the grid's keys once an image, the word's part of the cell's input in one product for all steps, the vocabulary
layer once over all real positions, and an image's captions side by side so that its grid is read once for all of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.cells import CELLS, UpperLayers
from showtell.decoders.grids import pooling_weights
from showtell.decoders.interface import Decoded, Decoder, State, active_corner, pad_corner
from showtell.decoders.params import DecoderParams
from showtell.decoders.words import build_embedding, build_output
from showtell.errors import UserError


class AttentionDecoder(Decoder):
    """LSTM or GRU over [word, gated context]; the context is the attention-weighted mean of the grid."""

    def __init__(self, params: DecoderParams, channels: int, words: int):
        super().__init__()
        self.rows = params.grid
        self.grid_norm = nn.LayerNorm(channels) if params.normalise_grid else nn.Identity()
        self.embedding = build_embedding(params, words)
        self.key = nn.Linear(channels, params.attention)
        self.query = nn.Linear(params.hidden, params.attention)
        self.energy = nn.Linear(params.attention, 1)
        self.gate = nn.Linear(params.hidden, channels)
        self.cell = CELLS[params.cell](self.embedding.embedding_dim + channels, params.hidden)
        self.upper = UpperLayers(params.cell, params.layers - 1, params.hidden, params.dropout)
        self.initial = nn.ModuleList(
            nn.Linear(channels, params.hidden) for _ in range(params.layers * self.cell.carried)
        )
        self.initial_activation = nn.Tanh() if params.initial_tanh else nn.Identity()
        self.context_output = nn.Linear(channels, params.hidden, bias=False) if params.context_output else None
        self.dropout = nn.Dropout(params.dropout)
        self.output = build_output(params, self.embedding, words)

    def start(self, features: Tensor) -> State:
        if features.dim() != 3:
            raise UserError("decoder.kind = attention needs a grid to look at; set encoder.output to grid")
        grid = self.grid_norm(features)  # (image, cell, channel)
        keys, mean = self.key(grid), grid.mean(dim=1)  # (image, cell, key), (image, channel)
        pooling = self._pooling(grid)
        if pooling is not None:
            keys = torch.matmul(pooling.to(keys.dtype), keys)  # (image, pooled cell, key)
            mean = torch.matmul(pooling.mean(dim=0).to(grid.dtype), grid)
        beam = tuple(self.initial_activation(initial(mean)).unsqueeze(1) for initial in self.initial)
        return State(image=(grid, keys), beam=beam)  # beam: each (image, 1, hidden)

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        word_gates = self._word_gates(tokens)  # (image, beam, gate)
        beam, context, _ = self._advance(*state.image, state.beam, word_gates, self._step_weights())
        logits = self._logits(self._top(beam), context)  # (image, beam, word)
        return logits, State(state.image, beam)

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        (grid, keys), beam = self.start(features)
        beam = tuple(x.expand(-1, inputs.shape[1], -1) for x in beam)  # (image, caption, hidden)
        word_gates = self._word_gates(inputs).unbind(dim=2)  # step times (image, caption, gate)
        weights = self._step_weights()
        hiddens, contexts, attentions = [], [], []
        for step, (i, c) in enumerate(active_corner(mask)):
            beam = tuple(x[:i, :c] for x in beam)
            beam, context, attention = self._advance(grid[:i], keys[:i], beam, word_gates[step][:i, :c], weights)
            hiddens.append(pad_corner(self._top(beam), mask))
            contexts.append(pad_corner(context, mask) if self.context_output is not None else None)
            attentions.append(pad_corner(attention, mask))
        real_context = torch.stack(contexts, dim=2)[mask] if self.context_output is not None else None
        logits = self._logits(torch.stack(hiddens, dim=2)[mask], real_context)  # (real position, word)
        return Decoded(logits, torch.stack(attentions, dim=2))

    def _pooling(self, grid: Tensor) -> Tensor | None:
        """(pooled cell, cell), or None where the encoder's own grid is attended to."""
        return None if self.rows is None else pooling_weights(grid.shape[1], self.rows, grid.device)

    def _top(self, beam: tuple[Tensor, ...]) -> Tensor:
        """The hidden state of the last layer, (image, caption, hidden)."""
        return beam[-self.cell.carried]

    def _word_gates(self, tokens: Tensor) -> Tensor:
        """The word's share of the cell's gates, input bias included: (..., gate)."""
        weight = self.cell.weight_ih[:, : self.embedding.embedding_dim]
        return functional.linear(self.embedding(tokens), weight, self.cell.bias_ih)

    def _step_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """What every step multiplies by, taken once: each use of a slice would cost a gradient of the whole's size.

        Weight and bias of everything that meets the previous hidden state, stacked so that it is one product a step,
        and the cell's weight for the context. With several layers attention follows the last one's state, and the cell
        its own: two products then.
        """
        own = () if self.upper.cells else (self.cell,)
        weights = [self.query.weight, self.gate.weight, *(cell.weight_hh for cell in own)]
        biases = [self.query.bias, self.gate.bias, *(cell.bias_hh for cell in own)]
        return torch.cat(weights), torch.cat(biases), self.cell.weight_ih[:, self.embedding.embedding_dim :]

    def _advance(
        self,
        grid: Tensor,
        keys: Tensor,
        beam: tuple[Tensor, ...],
        word_gates: Tensor,
        step_weights: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """One step: (state of all layers, gated context, attention), each (image, caption, ...)."""
        sizes = self.query.out_features, self.gate.out_features
        weight, bias, context_weight = step_weights
        everything = functional.linear(self._top(beam), weight, bias)
        query, gate, hidden_gates = everything.split([*sizes, everything.shape[-1] - sum(sizes)], dim=-1)
        if self.upper.cells:
            hidden_gates = functional.linear(beam[0], self.cell.weight_hh, self.cell.bias_hh)
        attention = self._attend(keys, query)  # (image, caption, pooled cell)
        context = torch.sigmoid(gate) * self._look(grid, attention)  # (image, caption, channel)
        context_gates = functional.linear(context, context_weight)
        carried = self.cell.carried
        first = self.cell.advance(word_gates + context_gates, hidden_gates, beam[:carried])
        return first + self.upper(first[0], beam[carried:]), context, attention

    def _attend(self, keys: Tensor, query: Tensor) -> Tensor:
        """Additive attention with one hidden layer: keys (image, cell, key), query (image, caption, key)."""
        mixed = functional.relu(keys.unsqueeze(1) + query.unsqueeze(2))  # (image, caption, cell, key)
        # The energy's bias shifts all cells alike, so softmax does not see it; it is kept to load published weights.
        energy = self.energy(mixed).squeeze(-1)  # (image, caption, cell)
        return functional.softmax(energy.float(), dim=-1)

    def _look(self, grid: Tensor, attention: Tensor) -> Tensor:
        """The mean of the grid under `attention` (image, caption, pooled cell): (image, caption, channel)."""
        pooling = self._pooling(grid)
        if pooling is not None:
            attention = torch.matmul(attention, pooling)  # (image, caption, cell)
        return torch.matmul(attention.to(grid.dtype), grid)

    def _logits(self, hidden: Tensor, context: Tensor | None) -> Tensor:
        if self.context_output is not None:
            hidden = hidden + self.context_output(context)
        return self.output(self.dropout(hidden))
