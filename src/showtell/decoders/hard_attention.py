"""Hard attention: the attended cell is sampled. Xu et al., "Show, Attend and Tell" (ICML 2015), section 4.1.

A sampled cell has no gradient. The attention probabilities learn by REINFORCE: the probability of a sampled cell rises
where the caption's likelihood is above the baseline. Shapes as in `interface.py`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Section 4.1: the share of captions that get the expected context instead of a sampled one, and the decay per batch of
# the moving average of their log-likelihoods.
EXPECTED_SHARE, BASELINE_DECAY = 0.5, 0.9


class HardAttention(nn.Module):
    """Samples cells, and keeps the baseline of REINFORCE.

    `reward`, `entropy`: the weights of the two terms beside the likelihood, lambda_r and lambda_e of the paper.
    """

    baseline: Tensor

    def __init__(self, reward: float, entropy: float):
        super().__init__()
        self.reward, self.entropy = reward, entropy
        self.register_buffer("baseline", torch.zeros(()))  # nats a caption

    def places(self, attention: Tensor, expected: Tensor | None) -> Tensor:
        """The weight of each cell, (image, caption, cell), from its probability; the gradient is that of `attention`.

        Where `expected` (image, caption) is True the weight is the probability itself, elsewhere 1 for a sampled cell.
        When `expected` is None, as during generation, it is 1 for the most probable cell.
        """
        if expected is None:
            return functional.one_hot(attention.argmax(dim=-1), attention.shape[-1]).to(attention.dtype)
        drawn = functional.one_hot(self.draw(attention.detach()), attention.shape[-1]).to(attention.dtype)
        return torch.where(expected.unsqueeze(2), attention, drawn)

    def draw(self, attention: Tensor) -> Tensor:
        """A cell for each caption, sampled from the probabilities (image, caption, cell): (image, caption).

        The first cell at which their sum exceeds a random number. `multinomial` would stop with an error of its own
        when training has diverged.
        """
        sums = attention.cumsum(dim=-1)
        numbers = torch.rand(attention.shape[:2], device=attention.device).unsqueeze(2)
        return (sums <= numbers * sums[..., -1:]).sum(dim=-1).clamp(max=attention.shape[-1] - 1)

    def expected(self, images: int, captions: int, device: torch.device) -> Tensor:
        """Which captions get expected contexts, sampled anew for each batch: bool (image, caption)."""
        return torch.rand(images, captions, device=device) < EXPECTED_SHARE

    def loss(
        self, logits: Tensor, targets: Tensor, captions: Tensor, attention: Tensor, seen: Tensor, expected: Tensor
    ) -> Tensor:
        """The loss terms beside cross-entropy, summed over captions; updates the baseline.

        logits (real position, word) and targets (real position,); for each real position its caption's number, the
        cells' probabilities and weights (real position, cell); and `expected` for each caption.
        """
        logprobs = torch.log_softmax(logits.detach().float(), dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
        likelihood = logprobs.new_zeros(len(expected)).index_add(0, captions, logprobs)  # (caption,)
        there = torch.zeros_like(expected).index_fill(0, captions, True)  # captions that exist, not padding
        drawn = there & ~expected
        logs = attention.clamp_min(torch.finfo(attention.dtype).tiny).log()  # (real position, cell)
        chosen = (seen.detach() * logs).sum(dim=1)  # (real position,) log probability of the sampled cell
        advantage = (likelihood - self.baseline) * drawn
        rewarded = (advantage[captions] * chosen).sum()
        spread = -(attention * logs).sum()
        if drawn.any():
            mean = likelihood[drawn].mean()
            self.baseline.mul_(BASELINE_DECAY).add_((1 - BASELINE_DECAY) * mean)
        return -self.reward * rewarded - self.entropy * spread
