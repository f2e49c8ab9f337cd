"""Scheduled sampling for every decoder of the interface: Bengio et al., "Scheduled Sampling for Sequence Prediction
with Recurrent Neural Networks" (NeurIPS 2015), section 2.4.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from showtell.decoders import Decoder

SamplingSchedule = Literal["constant", "linear", "exponential", "inverse_sigmoid"]


def own_word_share(
    epoch: int, highest: float, start: int | None, schedule: SamplingSchedule | None, rise: int | None
) -> float:
    """Probability in `epoch` (from 1) that an input word is the model's own prediction; 0 before `start`, or without
    it.

    With t epochs of sampling including this one, `highest` times: constant 1; linear t / rise, up to 1; exponential
    1 - e^(-t / rise); inverse_sigmoid 1 - rise / (rise + e^(t / rise)).
    """
    t = 0 if start is None else epoch - start + 1
    if t < 1:
        return 0.0
    if rise is None:
        return highest
    if schedule == "linear":
        return highest * min(1.0, t / rise)
    if schedule == "exponential":
        return highest * (1 - math.exp(-t / rise))
    if schedule == "inverse_sigmoid":
        return highest * (1 - rise / (rise + math.exp(min(t / rise, 700))))  # beyond 709 a float overflows
    return highest


@torch.no_grad()
def with_own_words(decoder: Decoder, features: Tensor, inputs: Tensor, mask: Tensor, share: float) -> Tensor:
    """`inputs` with each word but the first replaced, with probability `share`, by the decoder's most probable word.

    It is predicted from the preceding inputs, including replaced ones, without dropout. The choice has no gradient, so
    sampling first and teacher forcing afterwards is equivalent to doing both at once.
    """
    learning = decoder.training
    decoder.eval()
    captions, steps = inputs.shape[1:]
    state, next_step = decoder.start(features).repeat(captions), decoder.steps()
    replace = (torch.rand(inputs.shape, device=inputs.device) < share) & mask.to(inputs.device, non_blocking=True)
    mixed = [inputs[:, :, 0]]
    for step in range(1, steps):
        logits, state = next_step(state, mixed[-1])  # (image, caption, word)
        mixed.append(torch.where(replace[:, :, step], logits.argmax(dim=-1), inputs[:, :, step]))
    decoder.train(learning)
    return torch.stack(mixed, dim=2)  # (image, caption, step)
