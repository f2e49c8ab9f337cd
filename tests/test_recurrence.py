"""The hand-written gradients of the attention loop against numerical ones and autograd."""

import pytest
import torch

from showtell.decoders.cells import CELLS
from showtell.decoders.interface import active_corner, pad_corner
from showtell.decoders.recurrence import StepWeights, advance, recur

IMAGES, CAPTIONS, STEPS, CELLS_OF_GRID, CHANNELS, KEY, HIDDEN = 3, 2, 4, 4, 5, 6, 7
LENGTHS = torch.tensor([[4, 2], [3, 1], [3, 0]])  # the second caption of the third image does not exist


def loop(kind: str, pooled: bool, learning_grid: bool = True):
    """The arguments of `recur` in double precision: cell, corners, pooling, and the tensors that need gradients."""
    torch.manual_seed(0)
    cell = CELLS[kind](5, HIDDEN).double()
    gates = cell.weight_hh.shape[0]

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.double, requires_grad=True)

    grid = drawn(IMAGES, CELLS_OF_GRID, CHANNELS).requires_grad_(learning_grid)
    keys = drawn(IMAGES, 9 if pooled else CELLS_OF_GRID, KEY)
    weights = drawn(KEY + CHANNELS + gates, HIDDEN), drawn(KEY + CHANNELS + gates), drawn(gates, CHANNELS), drawn(KEY)
    state = [drawn(IMAGES, CAPTIONS, HIDDEN) for _ in range(cell.carried)]
    word_gates = drawn(IMAGES, CAPTIONS, STEPS, gates)
    pooling = torch.rand(9, CELLS_OF_GRID, dtype=torch.double) if pooled else None
    corners = active_corner(torch.arange(STEPS) < LENGTHS[..., None])
    return cell, corners, pooling, (grid, keys, word_gates, *weights, *state)


def by_hand(cell, corners, pooling, grid, keys, word_gates, *rest):
    return recur(cell, corners, pooling, grid, keys, rest[4:], word_gates, StepWeights(*rest[:4]))


def by_autograd(cell, corners, pooling, grid, keys, word_gates, *rest):
    weights, state, found = StepWeights(*rest[:4]), rest[4:], []
    for t, (i, c) in enumerate(corners):
        before = tuple(x[:i, :c] for x in state)
        step = advance(cell, grid[:i], keys[:i], pooling, before, word_gates[:i, :c, t], weights)
        state = step.state
        found.append([pad_corner(x, IMAGES, CAPTIONS) for x in (state[0], step.context, step.attention)])
    return tuple(torch.stack(x, dim=2) for x in zip(*found, strict=True))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_gradients_are_the_numerical_ones(kind, pooled):
    *fixed, learning = loop(kind, pooled)
    assert torch.autograd.gradcheck(lambda *x: by_hand(*fixed, *x), learning, fast_mode=True)


@pytest.mark.parametrize("kind", CELLS)
def test_the_loop_is_one_step_after_the_other(kind):
    *fixed, learning = loop(kind, pooled=True)
    found = []
    for way in (by_hand, by_autograd):
        outputs = way(*fixed, *learning)
        torch.manual_seed(1)
        total = sum((x * torch.randn(x.shape, dtype=x.dtype)).sum() for x in outputs)
        found.append((*outputs, *torch.autograd.grad(total, learning)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_features_that_do_not_learn_cost_no_gradient():
    *fixed, (grid, *learning) = loop("lstm", pooled=False, learning_grid=False)
    hidden, _, _ = by_hand(*fixed, grid, *learning)
    hidden.sum().backward()
    assert grid.grad is None
    assert all(x.grad is not None for x in learning)


def test_hidden_layers_in_parts_equal_the_whole(monkeypatch):
    *fixed, learning = loop("lstm", pooled=True)
    found = []
    for chunk in (1, 10**9):
        monkeypatch.setattr("showtell.decoders.recurrence.CACHED", chunk)
        outputs = by_hand(*fixed, *learning)
        found.append((*outputs, *torch.autograd.grad(sum(x.square().sum() for x in outputs), learning)))
    for one_by_one, at_once in zip(*found, strict=True):
        torch.testing.assert_close(one_by_one, at_once)
