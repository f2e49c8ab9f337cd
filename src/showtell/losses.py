"""What training minimises."""

import torch
from torch import Tensor
from torch.nn import functional

from showtell.decoders import Decoded


def caption_loss(decoded: Decoded, targets: Tensor, mask: Tensor, alpha_c: float, smoothing: float) -> Tensor:
    """Mean cross-entropy over real positions, plus the doubly stochastic penalty of decoders that attend.

    targets, mask (image, caption, step). Natural log. The penalty (Xu et al. 2015, section 4.2.1) asks every cell to be
    looked at about once in a caption: alpha_c times the mean over captions and cells of (1 - sum over steps)^2.
    """
    loss = functional.cross_entropy(decoded.logits.float(), targets[mask], label_smoothing=smoothing)
    if decoded.attention is None or alpha_c == 0:
        return loss
    seen = (decoded.attention * mask.unsqueeze(3)).sum(dim=2)  # (image, caption, cell)
    real = mask.any(dim=2)  # captions that the image really has
    return loss + alpha_c * ((1 - seen[real]) ** 2).mean()


@torch.no_grad()
def top_accuracy(logits: Tensor, targets: Tensor, among: int) -> Tensor:
    """How many targets (position,) are among the `among` best words of logits (position, word)."""
    best = logits.topk(min(among, logits.shape[1]), dim=1).indices
    return (best == targets.unsqueeze(1)).any(dim=1).sum()
