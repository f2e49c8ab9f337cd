"""A tiny captioner with random weights."""

from functools import cache

import torch
from conftest import tiny_params

from showtell.data.transform import Transform
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.network import Encoder
from showtell.generation.captioner import Captioner
from showtell.generation.model import Model

WORDS = ["a", "red", "blue", "dog", "ball", "runs", "on", "the", "grass", "boat", "sea", "kite"]


@cache
def tiny_captioner(size: int = 64, fit: str = "stretch", output: str = "grid", node: str = "layer3") -> Captioner:
    """A ResNet-18 up to its third layer (4 x 4 cells at 64 pixels) and a small attention decoder."""
    torch.manual_seed(7)
    config = {
        "name": "resnet18",
        "output": output,
        "node": node if output == "grid" else None,
        "size": size,
        "mean": ImageStatistics().mean,
        "std": ImageStatistics().std,
    }
    encoder = Encoder(config)
    params = DecoderParams.model_validate(tiny_params()["decoder"])
    vocabulary = Vocabulary(WORDS, range(len(WORDS), 0, -1))
    decoder = build_decoder(params, encoder.channels, len(vocabulary))
    return Captioner(Model(encoder, decoder, params, vocabulary, Transform(size, fit), "fp32"))
