"""Where to look is drawn: Xu et al., "Show, Attend and Tell" (ICML 2015), section 4.1.

A drawn place has no gradient. What learns is the probability of drawing it, by REINFORCE: more of it where the caption
came out likelier than usual. Shapes as in `interface.py`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Section 4.1: the share of captions that see the expected context in place of a drawn one, and what the moving average
# of their log-likelihoods keeps at every batch.
EXPECTED_SHARE, BASELINE_DECAY = 0.5, 0.9


class HardAttention(nn.Module):
    """Draws places, and keeps the baseline against which a caption's likelihood counts.

    `reward`, `entropy`: the weights of both terms beside the likelihood, lambda_r and lambda_e of the paper.
    """

    baseline: Tensor

    def __init__(self, reward: float, entropy: float):
        super().__init__()
        self.reward, self.entropy = reward, entropy
        self.register_buffer("baseline", torch.zeros(()))  # nats a caption

    def places(self, attention: Tensor, expected: Tensor | None) -> Tensor:
        """How much of each cell is seen, (image, caption, cell), from its probability; the gradient is of `attention`.

        Where `expected` (image, caption) is True that is the probability itself, elsewhere 1 for a drawn cell. When
        `expected` is None, as while generating, it is 1 for the likeliest cell.
        """
        if expected is None:
            return functional.one_hot(attention.argmax(dim=-1), attention.shape[-1]).to(attention.dtype)
        drawn = functional.one_hot(self.draw(attention.detach()), attention.shape[-1]).to(attention.dtype)
        return torch.where(expected.unsqueeze(2), attention, drawn)

    def draw(self, attention: Tensor) -> Tensor:
        """A cell for each caption with the probabilities (image, caption, cell): (image, caption)."""
        return torch.multinomial(attention.flatten(0, 1), 1).view(attention.shape[:2])

    def expected(self, images: int, captions: int, device: torch.device) -> Tensor:
        """Which captions see expected contexts, drawn anew: bool (image, caption)."""
        return torch.rand(images, captions, device=device) < EXPECTED_SHARE

    def loss(
        self, logits: Tensor, targets: Tensor, captions: Tensor, attention: Tensor, seen: Tensor, expected: Tensor
    ) -> Tensor:
        """What training minimises beside cross-entropy, a sum over captions; the baseline takes them in.

        logits (real position, word) and targets (real position,); of each real position also its caption's number,
        the probabilities of cells, what was seen of them (real position, cell), and `expected` for each caption.
        """
        logprobs = torch.log_softmax(logits.detach().float(), dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
        likelihood = logprobs.new_zeros(len(expected)).index_add(0, captions, logprobs)  # (caption,)
        there = torch.zeros_like(expected).index_fill(0, captions, True)  # captions that the image really has
        drawn = there & ~expected
        logs = attention.clamp_min(torch.finfo(attention.dtype).tiny).log()  # (real position, cell)
        chosen = (seen.detach() * logs).sum(dim=1)  # (real position,) log probability of the drawn cell
        advantage = (likelihood - self.baseline) * drawn
        rewarded = (advantage[captions] * chosen).sum()
        spread = -(attention * logs).sum()
        if drawn.any():
            mean = likelihood[drawn].mean()
            self.baseline.mul_(BASELINE_DECAY).add_((1 - BASELINE_DECAY) * mean)
        return -self.reward * rewarded - self.entropy * spread
