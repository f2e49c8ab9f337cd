"""The losses of training on captions."""

import torch
from torch import Tensor

from showtell.core.machine import CACHED
from showtell.core.precision import wide, wide_dtype
from showtell.decoders import Decoded


def caption_loss(
    decoded: Decoded, targets: Tensor, mask: Tensor, alpha_c: float, smoothing: float, positions: int, captions: int,
    weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Mean cross-entropy over real positions, plus the doubly stochastic penalty of decoders that attend.

    targets, mask (image, caption, step). Natural log. The penalty (Xu et al. 2015, section 4.2.1) makes the attention
    on each cell sum to about 1 over a caption: alpha_c times the mean over captions and cells of (1 - sum over
    steps)^2. `positions` and `captions` are the real ones of the whole update, so that the losses of its parts add up
    to the update's. `weights` (image, caption, step), of any sign, multiply the cross-entropy of each position; it is
    still divided by `positions`.
    """
    loss = cross_entropy(decoded.logits, targets[mask], smoothing, None if weights is None else weights[mask])
    loss = loss / positions
    if decoded.attention is None or alpha_c == 0:
        return loss
    on_device = mask.to(decoded.attention.device, non_blocking=True)
    seen = (decoded.attention * on_device.unsqueeze(3)).sum(dim=2)  # (image, caption, cell)
    real = mask.any(dim=2)  # captions that exist, not padding
    missed = (1 - seen[real]) ** 2  # (real caption, cell)
    return loss + alpha_c * missed.mean(dim=1).sum() / captions


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """The sum over positions of -log P(target), natural log: logits (position, word), targets (position,) ints.

    `smoothing` is the share of the target's probability that is spread over all words (Szegedy et al. 2016, section 7).
    `weights` (position,), of any sign, multiply each position's loss; they are constants without gradient.
    """
    return _CrossEntropy.apply(logits, targets, smoothing, weights)


class _CrossEntropy(torch.autograd.Function):
    """`torch.nn.functional.cross_entropy` in float32, a chunk of positions at a time.

    The logits are the largest tensor of an update. Here they are read once and their gradient is written once, both in
    their own dtype; the float32 intermediates stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
        total, gradient = logits.new_zeros((), dtype=wide_dtype(logits)), torch.empty_like(logits)
        size = max(1, CACHED // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
        for start in range(0, len(logits), size):
            part, target = slice(start, start + size), targets[start : start + size].unsqueeze(1)
            logprobs = torch.log_softmax(wide(logits[part]), dim=1)  # (position, word)
            weight = None if weights is None else weights[part].to(logprobs.dtype).unsqueeze(1)  # (position, 1)
            total -= (1 - smoothing) * _times(logprobs.gather(1, target), weight).sum()
            if smoothing:
                total -= smoothing * _times(logprobs.mean(dim=1, keepdim=True), weight).sum()
            share = logprobs.exp_().sub_(smoothing / logits.shape[1])
            share.scatter_add_(1, target, share.new_full((), smoothing - 1).expand_as(target))
            gradient[part] = _times(share, weight)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad), None, None, None  # in place: PyTorch refuses a second backward pass


def _times(values: Tensor, weight: Tensor | None) -> Tensor:
    return values if weight is None else values * weight


@torch.no_grad()
def top_accuracy(logits: Tensor, targets: Tensor, among: int) -> Tensor:
    """The number of targets (position,) that are among the `among` best words of logits (position, word)."""
    best = logits.topk(min(among, logits.shape[1]), dim=1).indices
    return (best == targets.unsqueeze(1)).any(dim=1).sum()
