"""Whether the encoder and the decoder of params.yaml can be built, asked before any stage runs.

What only the network itself knows (its layers, its blocks, what sizes it takes) would else be refused by the stage that
builds it, and DVC has removed that stage's old outputs by then.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from showtell.core.errors import UserError
from showtell.core.files import fingerprint, write_text
from showtell.core.paths import given
from showtell.core.workplace import ROOT
from showtell.decoders import build_decoder
from showtell.decoders.word_layers import WordParams
from showtell.encoders import pretrained
from showtell.encoders.network import build_encoder
from showtell.encoders.settings import image_statistics
from showtell.encoders.weights import SUFFIXES
from showtell.learning.word_vectors import check_size

ACCEPTED = ROOT / "model.accepted"  # the fingerprint of what was accepted last: to build a network takes seconds
WORDS = 10  # of the vocabulary, which is not known yet; any number does


def check_model(params: Mapping[str, Any]) -> None:
    """`UserError` for what the networks of `params`, all sections of params.yaml, refuse. Nothing is downloaded."""
    asked = [params[name] for name in ("resize", "encoder", "pretrain", "decoder", "finetune")]
    files = [params["encoder"].weights, getattr(params["decoder"], "embeddings", None)]
    name = fingerprint(*asked, [_state(file) for file in files if file])
    if ACCEPTED.is_file() and ACCEPTED.read_text(encoding="utf-8", errors="replace") == name:
        return
    _build(params)
    write_text(ACCEPTED, name)


def _state(file: str) -> list[Any]:
    """A file as it is now; what is a name and no file has none."""
    path: Path = given(file)
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []


def _build(params: Mapping[str, Any]) -> None:
    asked, pretrain, finetune = params["encoder"], params["pretrain"], params["finetune"]
    image_statistics(asked)  # names of weights that nobody knows
    local = asked.weights in pretrained.SHIPPED or asked.weights.endswith(SUFFIXES)
    encoder = build_encoder(
        asked.model_copy(update={"weights": asked.weights if local else "none"}), params["resize"].size, 0
    )
    pretrains = asked.weights == "none" and pretrain.enabled and pretrain.epochs
    for key, section in (("pretrain", pretrain if pretrains else None), ("finetune", finetune)):
        if section is not None and section.epochs:
            try:
                encoder.train_from(section.trainable_from)
            except UserError as error:
                raise UserError(f"{key}.trainable_from: {error}") from None
    shape = params["decoder"]
    if isinstance(shape, WordParams) and shape.embeddings is not None and shape.embedding is not None:
        check_size(given(shape.embeddings), shape.embedding)
    decoder = build_decoder(shape, encoder.channels, WORDS).eval()
    with torch.no_grad():
        images = torch.zeros(1, 3, params["resize"].size, params["resize"].size, dtype=torch.uint8)
        decoder.start(encoder.eval()(images))  # a grid that it cannot look at
