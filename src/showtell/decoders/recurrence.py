"""The loop of an attention decoder over given captions (teacher forcing), with its backward pass written out.

It gives the same numbers as calls of `advance` under autograd (tests/test_recurrence.py), several times faster:
- the gradient of a weight is one product over all steps, not a sum of one product for each step;
- the attention's hidden layer (image, caption, cell, key), the one large tensor of a step, is not kept: the backward
  pass recomputes it, a few images at a time, so that it stays in the processor's cache;
- autograd's graph has one node instead of some thirty for each step.

Shapes as in `interface.py`, with channel the grid's, key the attention's hidden size, gate all gates of the cell. The
grid may be pooled for attention (`grids.py`): keys and attention then have pooled cells, the grid has its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from showtell.core.machine import CACHED
from showtell.core.precision import autocast, wide, wide_dtype
from showtell.decoders.cells import GRUCell, LSTMCell
from showtell.decoders.interface import pad_corner


def as_keys(projected: Tensor) -> Tensor:
    """Keys in the dtype that the attention's hidden layer uses. Processors add float32 twice as fast as bf16."""
    return wide(projected) if projected.device.type == "cpu" else projected


class StepWeights(NamedTuple):
    """The weights that every step multiplies by."""

    hidden: Tensor  # (key + channel + gate, hidden): all weights applied to the previous hidden state, stacked
    hidden_bias: Tensor  # (key + channel + gate,)
    context: Tensor  # (gate, channel)
    energy: Tensor  # (key,)


class Step(NamedTuple):
    """One step and what its backward pass needs, each (image, caption, ...)."""

    state: tuple[Tensor, ...]  # after the step
    attention: Tensor  # (..., cell or pooled cell), float32
    seen: Tensor  # likewise: the weight of each cell in the context; the attention itself unless a cell is sampled
    context: Tensor  # (..., channel), gated
    hidden: Tensor  # before the step, in the grid's dtype
    query: Tensor
    on_cells: Tensor  # the attention on the grid's own cells
    gate: Tensor  # (..., channel)
    cell: Any  # what `back` of the cell needs


def advance(
    cell: LSTMCell | GRUCell,
    grid: Tensor,
    keys: Tensor,
    pooling: Tensor | None,
    state: Sequence[Tensor],
    word_gates: Tensor,
    weights: StepWeights,
    follow: Tensor | None = None,
    places: Callable[[Tensor], Tensor] | None = None,
) -> Step:
    """Attend with the previous hidden state, gate the context, and step the cell over word and context.

    `follow` (image, caption, hidden): the state that attention and gate depend on, when it is not the cell's own.
    `places` gives the weight of each cell, (image, caption, cell), when it is not the attention itself.
    """
    sizes = keys.shape[2], grid.shape[2], word_gates.shape[-1]
    hidden = state[0].to(grid.dtype)
    hidden_projections = functional.linear(hidden, weights.hidden, weights.hidden_bias)
    query, gate, hidden_gates = hidden_projections.split(sizes, dim=-1)
    if follow is not None:
        width = sum(sizes[:2])
        projected = functional.linear(follow.to(grid.dtype), weights.hidden[:width], weights.hidden_bias[:width])
        query, gate = projected.split(sizes[:2], dim=-1)
    query = query.to(keys.dtype)
    attention = functional.softmax(wide(energies(keys, query, weights.energy)), dim=-1)
    seen = attention if places is None else places(attention)
    on_cells = seen.to(grid.dtype)
    if pooling is not None:
        on_cells = torch.matmul(on_cells, pooling)  # (image, caption, cell)
    attended, gate = torch.matmul(on_cells, grid), torch.sigmoid(gate)  # (image, caption, channel)
    context = gate * attended
    input_gates = word_gates + functional.linear(context, weights.context)
    after, kept = cell.run(input_gates, hidden_gates, state)
    return Step(after, attention, seen, context, hidden, query, on_cells, gate, kept)


def energies(keys: Tensor, query: Tensor, energy: Tensor) -> Tensor:
    """Additive attention with one hidden layer: keys (image, cell, key), query (image, caption, key) -> (image,
    caption, cell), up to a constant over the cells, which softmax removes: the bias is left out, and so is the second
    term of relu(key + query) = max(key, -query) + query."""
    found = []
    for part in _chunks(keys, query):
        hidden = torch.maximum(keys[part].unsqueeze(1), query[part].neg().unsqueeze(2))  # (image, caption, cell, key)
        # a matrix product uses more threads than a matrix-vector product
        rows = energy.expand(*hidden.shape[:2], 1, -1)
        found.append(torch.matmul(rows, hidden.transpose(2, 3)).squeeze(2))
    return torch.cat(found)


def _chunks(keys: Tensor, query: Tensor) -> list[slice]:
    """Slices of the images whose hidden layer has about CACHED numbers; on an accelerator one slice of all."""
    images, captions, key = query.shape
    if images == 1:  # one slice; does not read the number of captions, which is dynamic in an exported graph
        return [slice(0, 1)]
    size = max(1, CACHED // max(1, captions * keys.shape[1] * key)) if keys.device.type == "cpu" else max(1, images)
    return [slice(start, start + size) for start in range(0, images, size)] or [slice(0, 0)]


def recur(
    cell: LSTMCell | GRUCell,
    corners: Sequence[tuple[int, int]],
    pooling: Tensor | None,
    grid: Tensor,
    keys: Tensor,
    state: Sequence[Tensor],
    word_gates: Tensor,
    weights: StepWeights,
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps: hidden states, gated contexts and attention, each (image, caption, step, ...), zero outside `corners`.

    `corners` (`active_corner`): for each step how many images and captions take part. grid (image, cell, channel),
    keys (image, pooled cell, key), state each (image, caption, hidden), word_gates (image, caption, step, gate).
    """
    with autocast("fp32"):  # the inputs have been cast already
        return _Recurrence.apply(cell, corners, pooling, grid, keys, word_gates, *weights, *state)


class _Recurrence(torch.autograd.Function):
    """`recur` with its backward pass."""

    @staticmethod
    def forward(ctx, cell, corners, pooling, grid, keys, word_gates, w_hidden, b_hidden, w_context, w_energy, *state):
        weights = StepWeights(w_hidden, b_hidden, w_context, w_energy)
        shape = word_gates.shape[:3]  # (image, caption, step)
        hidden = state[0].new_zeros(*shape, state[0].shape[2])
        context = grid.new_zeros(*shape, grid.shape[2])
        attention = state[0].new_zeros(*shape, keys.shape[1])
        steps = []
        for t, (i, c) in enumerate(corners):
            state = tuple(x[:i, :c] for x in state)
            step = advance(cell, grid[:i], keys[:i], pooling, state, word_gates[:i, :c, t], weights)
            state = step.state
            hidden[:i, :c, t], context[:i, :c, t], attention[:i, :c, t] = state[0], step.context, step.attention
            steps.append(step)
        ctx.save_for_backward(grid, keys, word_gates, *weights)
        ctx.loop = cell, corners, pooling, steps
        ctx.set_materialize_grads(False)
        return hidden, context, attention

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_hidden, grad_context, grad_attention):
        cell, corners, pooling, steps = ctx.loop
        grid, keys, word_gates, *weights = ctx.saved_tensors
        weights = StepWeights(*weights)
        back = _Backward(ctx.needs_input_grad[3], grid, keys, pooling, word_gates, weights)
        images, captions, count = word_gates.shape[:3]
        wanted = grad_hidden, grad_context, grad_attention
        state: tuple[Tensor, ...] = ()
        for t in reversed(range(count)):
            i, c = corners[t]
            outer = tuple(None if x is None else x[:i, :c, t] for x in wanted)
            after = steps[t].state  # captions that end here get no gradient from later steps
            grads = tuple(pad_corner(x, i, c) for x in state) or tuple(torch.zeros_like(x) for x in after)
            state = back.step(t, cell, steps[t], grads, *outer)
        products = back.products(steps)
        initial = tuple(pad_corner(x, images, captions) for x in state)
        return None, None, None, *products, *initial


class _Backward:
    """Gradients of all steps, from the last to the first."""

    def __init__(self, grid_learns, grid, keys, pooling, word_gates, weights):
        self.grid, self.keys, self.pooling, self.weights = grid, keys, pooling, weights
        images, captions, count, _ = word_gates.shape
        self.word_gates = torch.zeros_like(word_gates)
        # For each key: the sum over captions and steps of the energies' gradients where the hidden layer is positive.
        self.lit_keys = torch.zeros_like(keys, dtype=wide_dtype(keys))
        self.energy = torch.zeros_like(weights.energy, dtype=wide_dtype(keys))
        self.context_gradients = self.on_cells = None
        if grid_learns:  # collected, so that the grid's gradient is one product over all captions and steps
            self.context_gradients = grid.new_zeros(images, count, captions, grid.shape[2])
            self.on_cells = grid.new_zeros(images, count, captions, grid.shape[1])
        self.hidden_projections: list[Tensor] = []  # gradients of `hidden_projections` of each step, last step first
        self.input_gates: list[Tensor] = []

    def step(self, t, cell, step, grads, hidden, context, attention) -> tuple[Tensor, ...]:
        """Gradients of the state before a step, from those of the state after it and of the step's outputs."""
        dtype = self.grid.dtype
        if hidden is not None:
            grads = (grads[0] + hidden, *grads[1:])
        input_gates, hidden_gates, before = cell.back(step.cell, grads)
        input_gates = input_gates.to(dtype)
        i, c = input_gates.shape[:2]
        self.word_gates[:i, :c, t] = input_gates
        inner = torch.matmul(input_gates, self.weights.context)  # (image, caption, channel)
        if context is not None:
            inner = inner + context
        context_gradient, gate = inner * step.gate, inner * step.context * (1 - step.gate)
        on_cells = torch.matmul(context_gradient, self.grid[:i].transpose(1, 2))  # (image, caption, cell)
        if self.context_gradients is not None and self.on_cells is not None:
            self.context_gradients[:i, t, :c], self.on_cells[:i, t, :c] = context_gradient, step.on_cells
        if self.pooling is not None:
            on_cells = torch.matmul(on_cells, self.pooling.T)
        on_cells = wide(on_cells) if attention is None else on_cells + attention
        energy = step.attention * (on_cells - (step.attention * on_cells).sum(dim=2, keepdim=True))
        query = self.attend(step.query, energy.to(self.keys.dtype))
        hidden_projections = torch.cat([query.to(dtype), gate, hidden_gates.to(dtype)], dim=2)
        self.hidden_projections.append(hidden_projections)
        self.input_gates.append(input_gates)
        before_hidden = torch.matmul(hidden_projections, self.weights.hidden)
        return (before[0] + before_hidden, *before[1:]) if before[0] is not None else (wide(before_hidden), *before[1:])

    def attend(self, query: Tensor, energy: Tensor) -> Tensor:
        """Backward through the attention's hidden layer, recomputed: the gradient of `query` from that of the
        energies."""
        keys, lit_keys, lit_queries = self.keys[: len(query)], self.lit_keys[: len(query)], []
        for part in _chunks(keys, query):
            key, negative, by_cell = keys[part].unsqueeze(1), query[part].neg().unsqueeze(2), energy[part]
            lit = key.new_empty(*by_cell.shape, key.shape[-1])  # (image, caption, cell, key), 1 where it is positive
            torch.gt(key, negative, out=lit)
            lit_queries.append(torch.matmul(by_cell.unsqueeze(2), lit).squeeze(2))
            lit_keys[part] += lit.mul_(by_cell.unsqueeze(3)).sum(dim=1, dtype=self.lit_keys.dtype)
        lit_query = torch.cat(lit_queries)  # (image, caption, key)
        self.energy += (lit_query * query).sum(dim=(0, 1))
        return lit_query * self.weights.energy

    def products(self, steps) -> tuple[Tensor | None, ...]:
        """The gradients of grid, keys, word_gates and weights, as single products over all steps."""
        # (position, key + channel + gate)
        hidden_projections = torch.cat([x.flatten(0, 1) for x in self.hidden_projections])
        hidden = torch.cat([x.hidden.flatten(0, 1) for x in reversed(steps)])  # (position, hidden)
        inputs = torch.cat([x.flatten(0, 1) for x in self.input_gates])  # (position, gate)
        context = torch.cat([x.context.flatten(0, 1) for x in reversed(steps)])  # (position, channel)
        grid = None
        if self.context_gradients is not None and self.on_cells is not None:
            grid = torch.matmul(self.on_cells.flatten(1, 2).transpose(1, 2), self.context_gradients.flatten(1, 2))
        # hidden layer = key + query where lit, so the energy weights' gradient needs no hidden layer either
        energy = self.energy + (self.lit_keys * self.keys).sum(dim=(0, 1))
        return (
            grid,
            (self.lit_keys * self.weights.energy).to(self.keys.dtype),
            self.word_gates,
            hidden_projections.T @ hidden,
            hidden_projections.sum(dim=0),
            inputs.T @ context,
            energy.to(self.keys.dtype),
        )
