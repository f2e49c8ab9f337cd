"""Losses against values computed by hand; losses of parts add up to the whole."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from showtell.decoders import Decoded
from showtell.learning.losses import caption_loss, cross_entropy, top_accuracy

# One image with two captions of three and one words, another with one caption of two.
MASK = torch.tensor([[[1, 1, 1], [1, 0, 0]], [[1, 1, 0], [0, 0, 0]]]).bool()
TARGETS = torch.tensor([[[1, 2, 3], [3, 0, 0]], [[2, 3, 0], [0, 0, 0]]])


def decoded(seed: int = 0, cells: int = 4) -> Decoded:
    torch.manual_seed(seed)
    attention = torch.softmax(torch.randn(2, 2, 3, cells), dim=-1)
    return Decoded(torch.randn(6, 5), attention)


def test_cross_entropy_is_the_mean_over_real_words():
    both = decoded()
    logprobs = torch.log_softmax(both.logits, dim=1)
    expected = -sum(logprobs[row, word] for row, word in enumerate([1, 2, 3, 3, 2, 3])) / 6
    loss = caption_loss(Decoded(both.logits, None), TARGETS, MASK, alpha_c=1.0, smoothing=0.0, positions=6, captions=3)
    torch.testing.assert_close(loss, expected)


def test_label_smoothing_spreads_probability_over_all_words():
    both = decoded()
    logprobs = torch.log_softmax(both.logits, dim=1)
    targets = torch.full((6, 5), 0.1 / 5)
    for row, word in enumerate([1, 2, 3, 3, 2, 3]):
        targets[row, word] += 0.9
    loss = caption_loss(Decoded(both.logits, None), TARGETS, MASK, 0.0, smoothing=0.1, positions=6, captions=3)
    torch.testing.assert_close(loss, -(targets * logprobs).sum() / 6)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    flat = Decoded(torch.zeros(6, 5), None)
    assert caption_loss(flat, TARGETS, MASK, 0.0, 0.0, 6, 3).item() == pytest.approx(math.log(5))


def test_penalty_is_over_real_captions_and_real_steps():
    both = decoded()
    captions = [(0, 0, 3), (0, 1, 1), (1, 0, 2)]  # image, caption, steps
    missed = [(1 - both.attention[i, c, :steps].sum(0)) ** 2 for i, c, steps in captions]
    plain = caption_loss(both, TARGETS, MASK, 0.0, 0.0, 6, 3)
    penalised = caption_loss(both, TARGETS, MASK, 2.0, 0.0, 6, 3)
    torch.testing.assert_close(penalised - plain, 2.0 * torch.stack(missed).mean())


def test_no_penalty_where_the_attention_to_every_cell_sums_to_one():
    even = Decoded(torch.zeros(4, 5), torch.full((1, 1, 4, 4), 0.25))
    mask = torch.ones(1, 1, 4, dtype=torch.bool)
    targets = torch.zeros(1, 1, 4, dtype=torch.long)
    assert caption_loss(even, targets, mask, 1.0, 0.0, 4, 1).item() == pytest.approx(math.log(5))


def test_losses_of_parts_add_up_to_the_loss_of_the_batch():
    both = decoded()
    whole = caption_loss(both, TARGETS, MASK, 1.0, 0.1, positions=6, captions=3)
    rows = MASK.flatten(1).sum(1).tolist()
    first, second = both.logits.split(rows)
    parts = [
        caption_loss(Decoded(logits, both.attention[i : i + 1]), TARGETS[i : i + 1], MASK[i : i + 1], 1.0, 0.1, 6, 3)
        for i, logits in enumerate((first, second))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_top_accuracy_counts_targets_among_the_best():
    logits = torch.tensor([[5.0, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
    targets = torch.tensor([0, 5, 1])
    assert top_accuracy(logits, targets, among=1) == 1
    assert top_accuracy(logits, targets, among=5) == 2
    assert top_accuracy(logits, targets, among=99) == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_in_parts_equals_pytorchs(smoothing, monkeypatch):
    monkeypatch.setattr("showtell.learning.losses.CACHED", 30)  # four positions of seven words at a time
    torch.manual_seed(0)
    logits = torch.randn(10, 7, dtype=torch.double, requires_grad=True)
    targets = torch.randint(0, 7, (10,))
    ours = cross_entropy(logits, targets, smoothing)
    theirs = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    found = [torch.autograd.grad(3 * loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_positions_scale_their_loss(smoothing, monkeypatch):
    monkeypatch.setattr("showtell.learning.losses.CACHED", 30)
    torch.manual_seed(0)
    logits = torch.randn(10, 7, dtype=torch.double, requires_grad=True)
    targets, weights = torch.randint(0, 7, (10,)), torch.randn(10, dtype=torch.double)
    ours = cross_entropy(logits, targets, smoothing, weights)
    each = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, (weights * each).sum())
    found = [torch.autograd.grad(loss, logits)[0] for loss in (ours, (weights * each).sum())]
    torch.testing.assert_close(*found)


def test_weights_of_captions_apply_to_their_positions():
    both = decoded()
    weights = torch.tensor([[2.0, 0.0], [-1.0, 5.0]]).unsqueeze(2).expand(MASK.shape)
    logprobs = torch.log_softmax(both.logits, dim=1)
    expected = -sum(w * logprobs[row, word] for row, (word, w) in enumerate(
        [(1, 2), (2, 2), (3, 2), (3, 0), (2, -1), (3, -1)])) / 6  # fmt: skip
    loss = caption_loss(Decoded(both.logits, None), TARGETS, MASK, 0.0, 0.0, 6, 3, weights)
    torch.testing.assert_close(loss, expected)


class Outputs(TorchDispatchMode):
    """Records dtype and shape of every result inside."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor):
            self.seen.add((output.dtype, tuple(output.shape)))
        return output


def test_half_precision_logits_are_converted_in_parts(monkeypatch):
    monkeypatch.setattr("showtell.learning.losses.CACHED", 20)
    logits = torch.randn(12, 10).bfloat16().requires_grad_()
    with Outputs() as outputs:
        cross_entropy(logits, torch.arange(12) % 10, 0.1).backward()
    assert logits.grad.dtype == torch.bfloat16
    assert (torch.float32, (2, 10)) in outputs.seen  # some positions at a time
    assert (torch.float32, (12, 10)) not in outputs.seen
