"""A transformer decoder with cross-attention to the grid in every layer. Vaswani et al., "Attention Is All You Need"
(NeurIPS 2017), as used for captioning by Sharma et al., "Conceptual Captions" (ACL 2018). Optionally an encoder over
the grid's cells before it, with the memory slots of Cornia et al. (CVPR 2020).

Layer norms come before the sublayers (pre-norm), unlike in most captioning models: a short warm-up is then enough
(Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020), and the schedules of recurrent
decoders can be used.

The grid's keys and values are computed once for each image, whatever the number of captions or beams. Teacher forcing
computes real positions only. During generation the keys and values of generated words are cached, each once; a beam is
a list of the entries that it may attend to, so that reordering beams moves a few integers.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, cast

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.decoders.interface import Decoded, Decoder, State, at_real_positions, real_positions
from showtell.decoders.positions import POSITIONS
from showtell.decoders.transformer_layers import GridLayer, WordLayer, attend, attend_and_show
from showtell.decoders.word_layers import WordParams, build_embedding, build_output


class TransformerParams(WordParams):
    """Keys of `decoder.kind: transformer`. `hidden` is its width; `dropout` acts on words and sublayer outputs."""

    layers: int = Field(ge=1, le=24, description="layers over the words", examples=[3])
    heads: int = Field(ge=1, le=1024, description="attention heads of every layer; they divide hidden", examples=[8])
    feed_forward: int = Field(ge=1, le=65_536, description="width of the feed-forward sublayers", examples=[2048])
    positions: Literal["sinusoidal", "learned"] = Field(description="of words", examples=["sinusoidal"])
    grid_layers: int = Field(ge=0, le=24, description="layers of self-attention over the grid before", examples=[0])
    memory_slots: int = Field(ge=0, le=10_000, description="learned keys and values in each of these", examples=[0])
    normalise_grid: bool = Field(description="layer norm on each cell of the grid", examples=[True])

    @field_validator("heads", "memory_slots")
    @classmethod
    def _fits_layers(cls, value: Any, info: ValidationInfo) -> Any:
        hidden = info.data.get("hidden")
        if info.field_name == "heads" and hidden is not None and hidden % value:
            raise PydanticCustomError("heads", f"must divide decoder.hidden = {hidden}")
        if info.field_name == "memory_slots" and value and info.data.get("grid_layers") == 0:
            raise PydanticCustomError("slots", "memory slots are in layers over the grid, and decoder.grid_layers is 0")
        return value


class TransformerDecoder(Decoder):
    """Words attend to the words before them and to the grid."""

    Params = TransformerParams
    attends = True

    def __init__(self, params: TransformerParams, channels: int, words: int):
        super().__init__()
        self.hidden, self.heads = params.hidden, params.heads
        sizes = params.hidden, params.heads, params.feed_forward, params.dropout
        self.embedding = build_embedding(params, words)
        size = self.embedding.embedding_dim
        fits = size == params.hidden and params.embedding is not None  # one-hot words always get vectors
        self.word_input = nn.Identity() if fits else nn.Linear(size, params.hidden)
        self.positions = POSITIONS[params.positions](params.hidden)
        self.dropout = nn.Dropout(params.dropout)
        self.grid_norm = nn.LayerNorm(channels) if params.normalise_grid else nn.Identity()
        self.grid_input = nn.Linear(channels, params.hidden)
        self.grid_layers = nn.ModuleList(GridLayer(*sizes, params.memory_slots) for _ in range(params.grid_layers))
        self.grid_output_norm = nn.LayerNorm(params.hidden) if params.grid_layers else nn.Identity()
        self.layers = nn.ModuleList(WordLayer(*sizes) for _ in range(params.layers))
        self.output_norm = nn.LayerNorm(params.hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.output = build_output(params, self.embedding, words)

    def without_decay(self) -> list[nn.Parameter]:
        """Norms, biases, and embeddings: words, positions, memory slots."""
        looked_up = {"embedding.weight", "positions.weight"}
        return [p for name, p in self.named_parameters() if p.dim() < 2 or name in looked_up or "memory" in name]

    def start(self, features: Tensor) -> State:
        grid = self._grid_keys_values(features)
        # For each layer the keys and values of all words generated so far in any beam; which of them a beam attends to.
        cache = tuple(x.new_zeros(len(x), 0, x.shape[2]) for x in grid)  # (image, entry, 2 hidden)
        visible = torch.zeros(len(features), 1, 0, dtype=torch.long, device=features.device)  # (image, beam, step)
        return State((*grid, *cache), (visible,))

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        (visible,), depth, before = state.beam, len(self.layers), state.image[-1].shape[1]
        images, beams = tokens.shape
        entries = torch.arange(before, before + beams, device=tokens.device)
        visible = torch.cat([visible, entries.view(1, beams, 1).expand(images, -1, -1)], dim=2)  # (image, beam, step)
        mask = torch.zeros(images, beams, before + beams, dtype=torch.bool, device=tokens.device)
        mask = mask.scatter_(2, visible, True).unsqueeze(1)  # (image, 1, beam, entry)
        x = self._words(tokens, visible.new_full((), visible.shape[2] - 1))  # (image, beam, hidden)
        cache = []

        def attend_words(past: Tensor, query_key_value: Tensor) -> Tensor:
            query, keys_values = query_key_value.split([self.hidden, 2 * self.hidden], dim=-1)
            cache.append(torch.cat([past, keys_values.to(past.dtype)], dim=1))
            return attend(query.to(past.dtype), cache[-1], self.heads, mask)

        for layer, keys_values, past in zip(self.layers, state.image[:depth], state.image[depth:], strict=True):
            x = layer(x, partial(attend_words, past), partial(attend, keys_values=keys_values, heads=self.heads))
        return self.output(self.output_norm(x)), State((*state.image[:depth], *cache), (visible,))

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        x, by_head = self._read(features, inputs, mask)
        return Decoded(self.output(self.output_norm(x)), by_head.mean(dim=3))

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> Tensor:
        _, by_head = self._read(features, inputs, mask)
        return by_head.mean(dim=3) if head is None else by_head[:, :, :, head]

    def _read(self, features: Tensor, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's output, (real position, hidden), and its attention, (image, caption, step, head, cell)."""
        grid, shape = self._grid_keys_values(features), mask.shape  # (image, caption, step)
        rows = real_positions(mask, inputs.device)
        steps = torch.arange(shape[2], device=inputs.device).expand(shape)
        x = self._words(at_real_positions(inputs, mask), at_real_positions(steps, mask))  # (real position, hidden)

        def spread(x: Tensor) -> Tensor:
            """(real position, size) -> (image, caption, step, size), zero elsewhere."""
            return x.new_zeros(mask.numel(), x.shape[1]).index_copy(0, rows, x).unflatten(0, shape)

        def attend_words(query_key_value: Tensor) -> Tensor:
            apart = spread(query_key_value).flatten(0, 1)  # (image x caption, step, 3 hidden)
            query, keys_values = apart.split([self.hidden, 2 * self.hidden], dim=-1)
            return attend(query, keys_values, self.heads, causal=True).flatten(0, 1).index_select(0, rows)

        def attend_grid(keys_values: Tensor, query: Tensor) -> Tensor:
            beside = spread(query).flatten(1, 2)  # (image, caption x step, hidden)
            if keys_values is not grid[-1]:
                attended = attend(beside, keys_values, self.heads)
            else:
                attended, weights = attend_and_show(beside, keys_values, self.heads)
                shown.append(weights)
            return attended.flatten(0, 1).index_select(0, rows)

        shown: list[Tensor] = []
        for layer, keys_values in zip(self.layers, grid, strict=True):
            x = layer(x, attend_words, partial(attend_grid, keys_values))
        return x, shown[0].transpose(1, 2).unflatten(1, shape[1:])

    def _grid_keys_values(self, features: Tensor) -> tuple[Tensor, ...]:
        """The grid's keys and values for each layer, (image, cell, 2 hidden)."""
        if features.dim() != 3:
            raise UserError("decoder.kind = transformer needs a grid; set encoder.output to grid")
        grid = self.dropout(self.grid_input(self.grid_norm(features)))  # (image, cell, hidden)
        for layer in self.grid_layers:
            grid = layer(grid)
        grid = self.grid_output_norm(grid)
        return tuple(layer.grid_key_value(grid) for layer in cast(Iterable[WordLayer], self.layers))

    def _words(self, tokens: Tensor, steps: Tensor) -> Tensor:
        """The input of the first layer: tokens (...) at `steps` of their captions -> (..., hidden)."""
        words = self.word_input(self.embedding(tokens) * math.sqrt(self.hidden))
        return self.dropout(words + self.positions(steps))
