"""Show, attend and tell: an LSTM that looks at a part of the image before each word.

Xu et al., "Show, Attend and Tell" (ICML 2015), section 3, soft attention (4.2). Shapes as in `interface.py`, with
channel the grid's, key the attention's hidden size, hidden the LSTM's.

The published step-by-step form computes the same numbers slowly. Here what does not depend on the step is computed
once: the grid's keys once an image, the word's part of the LSTM's input in one product for all steps, the vocabulary
layer once over all real positions, and an image's captions side by side so that its grid is read once for all of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from showtell.decoders.interface import Decoded, Decoder, State, active_corner, pad_corner
from showtell.decoders.params import DecoderParams


class AttentionDecoder(Decoder):
    """LSTM over [word embedding, gated context]; the context is the attention-weighted mean of the grid."""

    def __init__(self, params: DecoderParams, channels: int, words: int):
        super().__init__()
        self.grid_norm = nn.LayerNorm(channels) if params.normalise_grid else nn.Identity()
        self.embedding = nn.Embedding(words, params.embedding)
        self.key = nn.Linear(channels, params.attention)
        self.query = nn.Linear(params.hidden, params.attention)
        self.energy = nn.Linear(params.attention, 1)
        self.gate = nn.Linear(params.hidden, channels)
        self.lstm = nn.LSTMCell(params.embedding + channels, params.hidden)
        self.initial_hidden = nn.Linear(channels, params.hidden)
        self.initial_cell = nn.Linear(channels, params.hidden)
        self.initial_activation = nn.Tanh() if params.initial_tanh else nn.Identity()
        self.context_output = nn.Linear(channels, params.hidden, bias=False) if params.context_output else None
        self.dropout = nn.Dropout(params.dropout)
        self.output = nn.Linear(params.hidden, words)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)

    def start(self, features: Tensor) -> State:
        grid = self.grid_norm(features)  # (image, cell, channel)
        keys = self.key(grid)  # (image, cell, key)
        mean = grid.mean(dim=1)  # (image, channel)
        hidden = self.initial_activation(self.initial_hidden(mean)).unsqueeze(1)  # (image, 1, hidden)
        cell = self.initial_activation(self.initial_cell(mean)).unsqueeze(1)
        return State(image=(grid, keys), beam=(hidden, cell))

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        word_gates = self._word_gates(tokens)  # (image, beam, 4 hidden)
        hidden, cell, context, _ = self._advance(*state.image, *state.beam, word_gates, self._hidden_weights())
        logits = self._logits(hidden, context)  # (image, beam, word)
        return logits, State(state.image, (hidden, cell))

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        (grid, keys), (hidden, cell) = self.start(features)
        captions = inputs.shape[1]
        hidden = hidden.expand(-1, captions, -1)  # (image, caption, hidden)
        cell = cell.expand(-1, captions, -1)
        word_gates = self._word_gates(inputs).unbind(dim=2)  # step times (image, caption, 4 hidden)
        weights = self._hidden_weights()
        hiddens, contexts, attentions = [], [], []
        for step, (i, c) in enumerate(active_corner(mask)):
            hidden, cell = hidden[:i, :c], cell[:i, :c]
            hidden, cell, context, attention = self._advance(
                grid[:i], keys[:i], hidden, cell, word_gates[step][:i, :c], weights
            )
            hiddens.append(pad_corner(hidden, mask))
            contexts.append(pad_corner(context, mask) if self.context_output is not None else None)
            attentions.append(pad_corner(attention, mask))
        real_context = torch.stack(contexts, dim=2)[mask] if self.context_output is not None else None
        logits = self._logits(torch.stack(hiddens, dim=2)[mask], real_context)  # (real position, word)
        return Decoded(logits, torch.stack(attentions, dim=2))

    def _word_gates(self, tokens: Tensor) -> Tensor:
        """The word's share of the LSTM's four gates, biases included: (..., 4 hidden)."""
        weight = self.lstm.weight_ih[:, : self.embedding.embedding_dim]
        return functional.linear(self.embedding(tokens), weight, self.lstm.bias_ih + self.lstm.bias_hh)

    def _hidden_weights(self) -> tuple[Tensor, Tensor]:
        """Everything that is multiplied by the previous hidden state, stacked so that it is one product a step."""
        weight = torch.cat([self.query.weight, self.gate.weight, self.lstm.weight_hh])
        bias = torch.cat([self.query.bias, self.gate.bias, torch.zeros_like(self.lstm.bias_hh)])
        return weight, bias

    def _advance(
        self,
        grid: Tensor,
        keys: Tensor,
        hidden: Tensor,
        cell: Tensor,
        word_gates: Tensor,
        hidden_weights: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step: (hidden, cell, gated context, attention), each (image, caption, ...)."""
        sizes = [self.query.out_features, self.gate.out_features, self.lstm.weight_hh.shape[0]]
        query, gate, hidden_gates = functional.linear(hidden, *hidden_weights).split(sizes, dim=-1)
        attention = self._attend(keys, query)  # (image, caption, cell)
        context = torch.matmul(attention.to(grid.dtype), grid)  # (image, caption, channel)
        context = torch.sigmoid(gate) * context
        context_gates = functional.linear(context, self.lstm.weight_ih[:, self.embedding.embedding_dim :])
        gates = word_gates + hidden_gates + context_gates
        enter, forget, candidate, leave = gates.float().chunk(4, dim=-1)  # PyTorch's order of LSTM gates
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        return hidden, cell, context, attention

    def _attend(self, keys: Tensor, query: Tensor) -> Tensor:
        """Additive attention with one hidden layer: keys (image, cell, key), query (image, caption, key)."""
        mixed = functional.relu(keys.unsqueeze(1) + query.unsqueeze(2))  # (image, caption, cell, key)
        # The energy's bias shifts all cells alike, so softmax does not see it; it is kept to load published weights.
        energy = self.energy(mixed).squeeze(-1)  # (image, caption, cell)
        return functional.softmax(energy.float(), dim=-1)

    def _logits(self, hidden: Tensor, context: Tensor | None) -> Tensor:
        if self.context_output is not None:
            hidden = hidden + self.context_output(context)
        return self.output(self.dropout(hidden))
