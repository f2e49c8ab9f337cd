"""Show, attend and tell: a recurrent decoder that attends to the image before each word.

Xu et al., "Show, Attend and Tell" (ICML 2015), section 3, with soft attention (4.2) or hard (4.1). Shapes as in
`interface.py`, with channel the grid's, key the attention's hidden size, hidden the recurrent state's, gate all gates
of the cell.

Attention is a weighted mean, which cannot tell two equal things from one. With `decoder.summary` every word is also
chosen from a summary of the whole grid, the mean over cells of a hidden layer on each cell, which can (Zaheer et al.,
"Deep Sets", NeurIPS 2017, section 2), and with `decoder.summary_product` from its product with what is attended to
(`bilinear.py`).

The published form computes everything at every step; the results are equal. Here, what does not depend on the step is
computed once: the grid's keys once per image, the word's part of the cell's input in one product for all steps, and the
vocabulary layer once over all real positions. The captions of an image are decoded together, so that its grid is read
once for all of them.
"""

from functools import partial
from typing import Literal

import torch
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from showtell.core.errors import UserError
from showtell.core.params import fits_choice
from showtell.core.precision import wide
from showtell.decoders.bilinear import SummaryProduct
from showtell.decoders.cells import CELLS, RecurrentParams, UpperLayers
from showtell.decoders.grids import pooling_weights
from showtell.decoders.hard_attention import HardAttention
from showtell.decoders.interface import (
    Decoded,
    Decoder,
    DecoderStep,
    State,
    active_corner,
    at_real_positions,
    pad_corner,
    real_positions,
)
from showtell.decoders.recurrence import Step, StepWeights, advance, as_keys, recur
from showtell.decoders.word_layers import build_embedding, build_output


class AttentionParams(RecurrentParams):
    """`decoder.kind: attention`."""

    model_config = ConfigDict(validate_default=True)  # keys that are left out are checked against the kind as well

    attention: int = Field(ge=1, le=65_536, description="hidden size of the attention", examples=[512])
    attention_kind: Literal["soft", "hard"] = Field(description="weighted mean of cells | one sampled cell")
    hard_reward: float | None = Field(None, gt=0, description="hard: weight of the reward of sampled cells")
    hard_entropy: float | None = Field(None, ge=0, description="hard: weight of the attention's entropy")
    grid: int | None = Field(ge=1, le=64, description="rows of the grid attended to; null: the encoder's own")
    normalise_grid: bool = Field(description="layer norm on each cell of the grid", examples=[True])
    initial_tanh: bool = Field(description="tanh on the initial state", examples=[True])
    summary: int | None = Field(None, ge=1, le=65_536, description="size of the summary; null: none")
    summary_product: bool = Field(False, description="words also from the summary times what is attended to")
    context_output: bool = Field(
        description="logits from hidden state and context, not from hidden state alone", examples=[True]
    )

    @field_validator("hard_reward", "hard_entropy")
    @classmethod
    def _fits_attention(cls, value: float | None, info: ValidationInfo) -> float | None:
        return fits_choice(value, info, "attention_kind", ("hard",))

    @field_validator("summary_product")
    @classmethod
    def _has_a_summary(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("summary", 1) is None:
            raise PydanticCustomError("summary", "it multiplies the summary, and decoder.summary is null")
        return value


class AttentionDecoder(Decoder):
    """LSTM or GRU over [word, gated context].

    The context is the attention-weighted mean of the grid, or one of its cells when attention is hard.
    """

    Params = AttentionParams
    attends = True

    def __init__(self, params: AttentionParams, channels: int, words: int):
        super().__init__()
        self.rows = params.grid
        self.grid_norm = nn.LayerNorm(channels) if params.normalise_grid else nn.Identity()
        self.embedding = build_embedding(params, words)
        self.key = nn.Linear(channels, params.attention)
        self.query = nn.Linear(params.hidden, params.attention)
        self.energy = nn.Linear(params.attention, 1)
        # No effect: softmax does not change when all energies shift equally. It exists to hold published weights.
        self.energy.bias.requires_grad_(False)
        self.hard = None
        if params.hard_reward is not None and params.hard_entropy is not None:
            self.hard = HardAttention(params.hard_reward, params.hard_entropy)
        self.gate = nn.Linear(params.hidden, channels)
        self.cell = CELLS[params.cell](self.embedding.embedding_dim + channels, params.hidden)
        self.upper = UpperLayers(params.cell, params.layers - 1, params.hidden, params.dropout)
        self.summary = nn.Linear(channels, params.summary) if params.summary else None
        self.summary_output = nn.Linear(params.summary, params.hidden, bias=False) if params.summary else None
        self.product = None
        if params.summary and params.summary_product:
            self.product = SummaryProduct(channels, params.summary, params.hidden)
        self.initial = nn.ModuleList(
            nn.Linear(params.summary or channels, params.hidden) for _ in range(params.layers * self.cell.carried)
        )
        self.initial_activation = nn.Tanh() if params.initial_tanh else nn.Identity()
        self.context_output = nn.Linear(channels, params.hidden, bias=False) if params.context_output else None
        self.dropout = nn.Dropout(params.dropout)
        self.output = build_output(params, self.embedding, words)

    def start(self, features: Tensor) -> State:
        if features.dim() != 3:
            raise UserError("decoder.kind = attention needs a grid; set encoder.output to grid")
        grid = self.grid_norm(features)  # (image, cell, channel)
        keys, pooling = self.key(grid), self._pooling(grid)  # (image, cell, key)
        if pooling is not None:
            keys = torch.matmul(pooling, keys)  # (image, pooled cell, key)
        whole = self._whole(grid, pooling)
        beam = tuple(wide(self.initial_activation(initial(whole))).unsqueeze(1) for initial in self.initial)
        image: tuple[Tensor, ...] = grid.to(keys.dtype), as_keys(keys)
        if self.summary_output is not None:
            image += (self.summary_output(whole),)  # (image, hidden)
        if self.product is not None:
            image += (self.product.of_image(whole),)  # (image, hidden)
        return State(image, beam)  # beam: each (image, 1, hidden)

    def _whole(self, grid: Tensor, pooling: Tensor | None) -> Tensor:
        """What the state begins from: the summary (image, summary), without one the cells' mean (image, channel)."""
        if self.summary is not None:
            return torch.relu(self.summary(grid)).mean(dim=1)
        return grid.mean(dim=1) if pooling is None else torch.matmul(pooling.mean(dim=0), grid)

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        return self._step(self._weights(*state.image[:2]), state, tokens)

    def steps(self) -> DecoderStep:
        weights: list[tuple[Tensor, StepWeights]] = []  # computed at the first step, when the dtype is known

        def step(state: State, tokens: Tensor) -> tuple[Tensor, State]:
            if not weights:
                weights.append(self._weights(*state.image[:2]))
            return self._step(weights[0], state, tokens)

        return step

    def _step(self, weights: tuple[Tensor, StepWeights], state: State, tokens: Tensor) -> tuple[Tensor, State]:
        word_gates = self._word_gates(tokens, weights[0])  # (image, beam, gate)
        grid, keys, *known = state.image
        beam, step = self._advance(grid, keys, state.beam, word_gates, weights[1])
        of_beams = [x.unsqueeze(1) for x in known]
        logits = self._logits(self._top(beam), step.context, *of_beams)  # (image, beam, word)
        return logits, state._replace(beam=beam)

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        expected = None
        if self.hard is not None and self.training:
            expected = self.hard.expected(mask.shape[0], mask.shape[1], features.device)
        start = self.start(features)
        hidden, context, attention, *seen = self._read(start, inputs, mask, expected)
        reads_context = self.context_output is not None or self.product is not None
        real_context = at_real_positions(context, mask) if reads_context else None
        captions = real_positions(mask, features.device) // mask.shape[2]  # caption index of each real position
        known = [x.index_select(0, captions // mask.shape[1]) for x in start.image[2:]]
        logits = self._logits(at_real_positions(hidden, mask), real_context, *known)  # (real position, word)
        if self.hard is None or expected is None:
            return Decoded(logits, attention)
        probabilities, places = (at_real_positions(x, mask) for x in (attention, *seen))
        drawn = {"captions": captions, "attention": probabilities, "seen": places, "expected": expected.flatten()}
        return Decoded(logits, attention, partial(self.hard.loss, logits, **drawn))

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> Tensor:
        return self._read(self.start(features), inputs, mask, None)[2]

    def _read(self, start: State, inputs: Tensor, mask: Tensor, expected: Tensor | None) -> tuple[Tensor, ...]:
        """Hidden states, contexts and attention after each input, each (image, caption, step, ...).

        With `expected` (`HardAttention.places`) also the weights used, (image, caption, step, cell).
        """
        (grid, keys, *_), beam = start.repeat(inputs.shape[1])
        word_weight, weights = self._weights(grid, keys)
        loop = grid, keys, beam, self._word_gates(inputs, word_weight), weights
        if self.hard is not None or self.upper.cells:
            return self._layered(active_corner(mask), expected, *loop)
        return recur(self.cell, active_corner(mask), self._pooling(grid), *loop)

    def _pooling(self, grid: Tensor) -> Tensor | None:
        """(pooled cell, cell), or None where the encoder's own grid is attended to."""
        return None if self.rows is None else pooling_weights(grid.shape[1], self.rows, grid.device).to(grid.dtype)

    def _top(self, beam: tuple[Tensor, ...]) -> Tensor:
        """The hidden state of the last layer, (image, caption, hidden)."""
        return beam[-self.cell.carried]

    def _word_gates(self, tokens: Tensor, word_weight: Tensor) -> Tensor:
        """The word's part of the cell's gates, with the input bias: (..., gate)."""
        return functional.linear(self.embedding(tokens), word_weight, self.cell.bias_ih)

    def _weights(self, grid: Tensor, keys: Tensor) -> tuple[Tensor, StepWeights]:
        """The cell's weight for words, and the weights of every step, stacked, in the dtype of the state."""
        word, context = self.cell.weight_ih.split([self.embedding.embedding_dim, self.gate.out_features], dim=1)
        hidden = torch.cat([self.query.weight, self.gate.weight, self.cell.weight_hh])
        bias = torch.cat([self.query.bias, self.gate.bias, self.cell.bias_hh])
        hidden, bias, context = (x.to(grid.dtype) for x in (hidden, bias, context))
        return word.to(grid.dtype), StepWeights(hidden, bias, context, self.energy.weight[0].to(keys.dtype))

    def _advance(
        self, grid: Tensor, keys: Tensor, beam: tuple[Tensor, ...], word_gates: Tensor, weights: StepWeights,
        expected: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], Step]:  # fmt: skip
        """One step of all layers: their states, each (image, caption, hidden), and the first layer's `Step`.

        `expected` as in `HardAttention.places`.
        """
        own, above = beam[: self.cell.carried], beam[self.cell.carried :]
        follow = self._top(beam) if above else None
        places = partial(self.hard.places, expected=expected) if self.hard is not None else None
        step = advance(self.cell, grid, keys, self._pooling(grid), own, word_gates, weights, follow, places)
        return step.state + self.upper(step.state[0], above), step

    def _layered(
        self, corners: list[tuple[int, int]], expected: Tensor | None, grid: Tensor, keys: Tensor,
        beam: tuple[Tensor, ...], word_gates: Tensor, weights: StepWeights,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """The result of `recur`, by autograd, for hard attention and for several layers (the query is the state of the
        last layer). With `expected` (image, caption) also the weights used, (image, caption, step, cell)."""
        found = []
        images, captions = word_gates.shape[:2]
        for t, (i, c) in enumerate(corners):
            beam = tuple(x[:i, :c] for x in beam)
            mean = expected[:i, :c] if expected is not None else None
            beam, step = self._advance(grid[:i], keys[:i], beam, word_gates[:i, :c, t], weights, mean)
            outputs = [self._top(beam), step.context, step.attention, *([step.seen] if expected is not None else [])]
            found.append([pad_corner(x, images, captions) for x in outputs])
        return tuple(torch.stack(x, dim=2) for x in zip(*found, strict=True))

    def _logits(
        self, hidden: Tensor, context: Tensor | None, summary: Tensor | None = None, whole: Tensor | None = None
    ) -> Tensor:
        """`summary` and `whole` as in `State.image`: the output of `summary_output`, and the grid's factor of
        `product`."""
        said = hidden
        if self.context_output is not None:
            said = said + self.context_output(context)
        if summary is not None:
            said = said + summary
        if self.product is not None and context is not None and whole is not None:
            said = said + self.product(hidden, context, whole)
        return self.output(self.dropout(said))
