"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional

from showtell.decoders import Decoded


def caption_loss(
    decoded: Decoded, targets: Tensor, mask: Tensor, alpha_c: float, smoothing: float, positions: int, captions: int
) -> Tensor:
    """Mean cross-entropy over real positions, plus the doubly stochastic penalty of decoders that attend.

    targets, mask (image, caption, step). Natural log. The penalty (Xu et al. 2015, section 4.2.1) asks every cell to be
    looked at about once in a caption: alpha_c times the mean over captions and cells of (1 - sum over steps)^2.
    `positions` and `captions` are the real ones of the whole update, so that the losses of its parts add up to its own.
    """
    logits, real_targets = decoded.logits.float(), targets[mask]
    loss = functional.cross_entropy(logits, real_targets, label_smoothing=smoothing, reduction="sum") / positions
    if decoded.attention is None or alpha_c == 0:
        return loss
    seen = (decoded.attention * mask.unsqueeze(3)).sum(dim=2)  # (image, caption, cell)
    real = mask.any(dim=2)  # captions that the image really has
    missed = (1 - seen[real]) ** 2  # (real caption, cell)
    return loss + alpha_c * missed.mean(dim=1).sum() / captions


@torch.no_grad()
def top_accuracy(logits: Tensor, targets: Tensor, among: int) -> Tensor:
    """How many targets (position,) are among the `among` best words of logits (position, word)."""
    best = logits.topk(min(among, logits.shape[1]), dim=1).indices
    return (best == targets.unsqueeze(1)).any(dim=1).sum()
