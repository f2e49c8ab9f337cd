"""A decoder whose scores are raised and lowered by the words that are found in the image.

Fang et al., "From Captions to Visual Concepts and Back" (CVPR 2015), section 4: a word that has been said is no longer
among the detected words that are still to be mentioned. They train a language model on them; here their log
probabilities are added to the logits of a decoder that was trained without them. A detector finds them, or without one
similar training images (`neighbour_words.py`).
"""

import torch
from torch import Tensor

from showtell.decoders import Decoded, Decoder, DecoderStep, State
from showtell.encoders.detection import WordDetector
from showtell.generation.neighbour_words import NeighbourWords


class HintedDecoder(Decoder):
    """`decoder`, with `weight` times the log probability that a word is in the image added to the word's logit.

    Once said, a word has at most that of the share of training images with it: that it was detected counts once, or
    "a woman" would go on "with a woman". The hints (image, beam, word) are the last tensor of `State.beam`.
    """

    def __init__(self, decoder: Decoder, detector: WordDetector | NeighbourWords, weight: float):
        super().__init__()
        self.decoder, self.detector, self.weight = decoder, detector, weight

    def start(self, features: Tensor) -> State:
        hints = self.weight * self.detector.log_probabilities(features)
        state = self.decoder.start(features)
        return state._replace(beam=(*state.beam, hints.unsqueeze(1)))

    def step(self, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        return self._hinted(self.decoder.step, state, tokens)

    def steps(self) -> DecoderStep:
        plain = self.decoder.steps()
        return lambda state, tokens: self._hinted(plain, state, tokens)

    def attend(self, features: Tensor, inputs: Tensor, mask: Tensor, head: int | None = None) -> Tensor | None:
        return self.decoder.attend(features, inputs, mask, head)

    def forward(self, features: Tensor, inputs: Tensor, mask: Tensor) -> Decoded:
        raise NotImplementedError("it generates captions; the decoder inside learns them")

    def _hinted(self, step: DecoderStep, state: State, tokens: Tensor) -> tuple[Tensor, State]:
        *beam, hints = state.beam
        said = tokens.unsqueeze(2)  # (image, beam, 1)
        spent = self.weight * self.detector.log_share[said]
        hints = hints.scatter(2, said, torch.minimum(hints.gather(2, said), spent))
        logits, state = step(state._replace(beam=tuple(beam)), tokens)
        return logits + hints, state._replace(beam=(*state.beam, hints))
