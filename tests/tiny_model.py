"""A tiny captioner with random weights, and a bundle of it with the same confidence for every caption."""

from functools import cache
from pathlib import Path

import torch
from conftest import tiny_params

from showtell.data.transform import Transform
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.network import Encoder
from showtell.generation.bundle import save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.confidence import Calibration, Confidence
from showtell.generation.model import Model
from showtell.generation.search_params import PLAIN

WORDS = ["a", "red", "blue", "dog", "ball", "runs", "on", "the", "grass", "boat", "sea", "kite"]

LEVEL = Calibration(power=0.0, places=[0.0], chances=[0.625], captions=6, lowest=-1000.0)  # every caption has it
CONFIDENCE = Confidence(median_cider=0.5, good=LEVEL, true=LEVEL.model_copy(update={"chances": [0.25]}))


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
    silent = {"summary": None, "summary_product": False}  # with a summary it says nothing
    params = DecoderParams.model_validate(tiny_params()["decoder"] | silent)
    vocabulary = Vocabulary(WORDS, range(len(WORDS), 0, -1))
    decoder = build_decoder(params, encoder.channels, len(vocabulary))
    return Captioner(Model(encoder, decoder, params, vocabulary, Transform(size, fit), "fp32"))


def serve_tiny_model(folder: Path, confidence: Confidence | None) -> Path:
    """The bundle of the tiny model, served with a beam of 2."""
    save_model(tiny_captioner().model, folder / "source", notes={})
    search = PLAIN.override(beam=2, max_length=6)
    serve_model(folder / "source", folder / "model", search, {}, confidence=confidence)
    return folder / "model"
