"""A model: encoder, decoder, vocabulary and transform that belong together, optionally with a word detector.

Only its parts: `bundle.py` writes and reads it, `captioner.py` generates captions with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.files import fingerprint
from showtell.core.precision import Precision, device
from showtell.core.tensor_files import tensors_hash
from showtell.data.transform import Transform
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import Decoder, DecoderParams
from showtell.encoders.detection import WordDetector
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder
from showtell.generation.neighbour_words import NeighbourWords
from showtell.generation.word_hints import HintedDecoder


@dataclass(frozen=True, eq=False)
class Model:
    """Networks ready for use, on the device. `params`: the decoder's. `precision`: the frozen encoder's."""

    encoder: Encoder
    decoder: Decoder
    params: DecoderParams
    vocabulary: Vocabulary
    transform: Transform
    precision: Precision
    detector: WordDetector | None = None  # detects words in the encoder's grid

    def __post_init__(self) -> None:
        for network in self.networks().values():
            network.eval().to(device())

    def networks(self) -> dict[str, nn.Module]:
        """Its networks by name, the prefix of their weights' names in a file."""
        networks = {"encoder": self.encoder, "decoder": self.decoder, "detector": self.detector}
        return {name: network for name, network in networks.items() if network is not None}

    def config(self) -> dict[str, Any]:
        """The configuration of its parts, JSON-able."""
        return {
            "encoder": self.encoder.config,
            "decoder": self.params.model_dump(),
            "detector": {"words": len(self.detector.words)} if self.detector is not None else None,
            "transform": self.transform.to_dict(),
            "precision": self.precision,
            "vocabulary": self.vocabulary.hash,
        }

    def hash(self) -> str:
        """A hash of its networks and their configuration; `Captioner.settings_hash` is of the search."""
        states = (network.state_dict() for network in self.networks().values())
        return fingerprint(self.config(), *map(tensors_hash, states))

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (image, 3, height, width) -> features, in the precision of the frozen encoder, as float32."""
        return self._frozen(pixels).float()

    @cached_property
    def _frozen(self) -> FrozenEncoder:
        return FrozenEncoder(self.encoder, self.precision)

    def speaking(self, weight: float, instead: NeighbourWords | None = None) -> Decoder:
        """The decoder with the detected words' log probabilities, times `weight`, added to its logits; with those of
        `instead` where it has no detector. The decoder itself without both, or with weight 0."""
        detector = self.detector if self.detector is not None else instead
        if detector is None or not weight:
            return self.decoder
        return HintedDecoder(self.decoder, detector, weight).eval()


def check_detector(models: Iterable[Model], weight: float) -> None:
    """`UserError` where none of the models detects words, so that `weight` as their detection_weight does nothing."""
    if not any(model.detector for model in models):
        raise UserError(
            f"detection_weight = {weight:g}: no detector of words was trained with this model; leave it out"
        )
