"""Checks that the encoder and decoder of params.yaml can be built, before any stage runs.

Some mistakes (an unknown layer or block, an image size that the network does not take) are detected only when the
network is built. Without this check, the stage that builds it would fail after DVC has removed its old outputs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from showtell.core.errors import UserError
from showtell.core.files import fingerprint, write_text
from showtell.core.initialisation import Uninitialised
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.core.workplace import ROOT
from showtell.decoders import DECODERS, build_decoder
from showtell.decoders.word_layers import WordParams
from showtell.encoders import pretrained
from showtell.encoders.encoder_params import image_statistics
from showtell.encoders.network import build_encoder
from showtell.encoders.weights import WEIGHTS_SUFFIXES
from showtell.learning.word_vectors import check_size

ACCEPTED = ROOT / "model.accepted"  # fingerprint of the last accepted parameters: building networks takes seconds
WORDS = 10  # size of the vocabulary, which is not known yet; any number will do


def check_model(params: Mapping[str, Any]) -> None:
    """Raise the `UserError` of building the networks of `params`, all sections of params.yaml. Nothing is
    downloaded."""
    weights, dataset = params["encoder"].weights, params["dataset"]
    if weights in pretrained.SHIPPED and weights != dataset:
        log(
            f"encoder.weights: {weights} have seen drawings only, and dataset {dataset} is another; `showtell recipe "
            "photographs --write` sets weights that have seen photographs"
        )
    pretrain, finetune = params["pretrain"], params["finetune"]
    detects = (pretrain.applies_to(weights) and pretrain.epochs) or (finetune.epochs and finetune.word_loss)
    if params["search"].detection_weight and not (detects and params["encoder"].output == "grid"):
        log(
            "search.detection_weight weighs the words of similar training images: no detector of words is trained "
            "(pretrain does not run, and finetune.word_loss or its epochs are 0, or encoder.output is not grid)"
        )
    for key, reason in params["search"].unread.items():
        log(f"search.{key} does nothing: {reason}")
    learning, passes = params["train"], max(params["train"].epochs, finetune.epochs)
    if learning.alpha_c and not DECODERS[params["decoder"].kind].attends:
        log(f"learning.alpha_c does nothing: decoder.kind {params['decoder'].kind} does not attend to cells")
    if learning.sampling and (learning.sampling_start or 1) > passes:
        log(f"learning.sampling does nothing: it starts in epoch {learning.sampling_start}, training has {passes}")
    asked = [params[name] for name in ("resize", "encoder", "pretrain", "decoder", "finetune")]
    files = [weights, getattr(params["decoder"], "embeddings", None)]
    name = fingerprint(*asked, [_state(file) for file in files if file])
    if ACCEPTED.is_file() and ACCEPTED.read_text(encoding="utf-8", errors="replace") == name:
        return
    _build(params)
    write_text(ACCEPTED, name)


def _state(file: str) -> list[Any]:
    """Size and time of a file; empty for a name that is not a file."""
    path: Path = given(file)
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []


def _build(params: Mapping[str, Any]) -> None:
    asked, pretrain, finetune = params["encoder"], params["pretrain"], params["finetune"]
    image_statistics(asked)  # raises for unknown names of weights
    local = asked.weights in pretrained.SHIPPED or asked.weights.endswith(WEIGHTS_SUFFIXES)
    with Uninitialised():
        encoder = build_encoder(
            asked.model_copy(update={"weights": asked.weights if local else "none"}), params["resize"].size, 0
        )
    pretrains = pretrain.applies_to(asked.weights)
    for key, section in (("pretrain", pretrain if pretrains else None), ("finetune", finetune)):
        if section is not None and section.epochs:
            try:
                encoder.train_from(section.trainable_from)
            except UserError as error:
                raise UserError(f"{key}.trainable_from: {error}") from None
    shape = params["decoder"]
    if isinstance(shape, WordParams) and shape.embeddings is not None and shape.embedding is not None:
        check_size(given(shape.embeddings), shape.embedding)
    with Uninitialised():
        decoder = build_decoder(shape, encoder.channels, WORDS).eval()
    with torch.no_grad():
        images = torch.zeros(1, 3, params["resize"].size, params["resize"].size, dtype=torch.uint8)
        decoder.start(encoder.eval()(images))  # raises for features that the decoder cannot use
