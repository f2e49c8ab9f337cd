"""A model as a folder: everything that is needed to caption an image.

`config.json` (how to build it, see `bundle_config.py`), `vocab.json` and `model.safetensors` (the weights): no pickle,
no params.yaml, no DVC. `train`, `finetune` and `reinforce` write models; `evaluate` writes the bundle that is served,
with the search settings that it was scored with, the calibration of its confidence (`confidence.py`) and the training
images that the search compares with (`neighbours.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from showtell.core.errors import UserError
from showtell.core.files import link, read_json, write_json
from showtell.core.initialisation import Uninitialised, shapes_only
from showtell.core.tensor_files import difference, load_tensors, read_header, save_tensors
from showtell.core.terminal import one_line
from showtell.data.transform import Transform
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import Decoder, build_decoder
from showtell.encoders.detection import WordDetector, Words
from showtell.encoders.network import Encoder
from showtell.generation.bundle_config import FORMAT, BundleConfig, checked_config
from showtell.generation.confidence import CONFIDENCE, Confidence, load_confidence, save_confidence
from showtell.generation.model import Model
from showtell.generation.neighbours import NEIGHBOURS, Neighbours
from showtell.generation.search_params import PLAIN, SearchParams

CONFIG, VOCAB, WEIGHTS = "config.json", "vocab.json", "model.safetensors"


class Bundle(NamedTuple):
    """The content of a bundle."""

    model: Model
    search: SearchParams  # settings that the model was scored with; defaults if it was not
    others: tuple[Model, ...] = ()  # the other models of the ensemble
    confidence: Confidence | None = None  # for captions of this ensemble with these settings
    neighbours: Neighbours | None = None  # training images, encoded by `model`


def save_model(model: Model, folder: Path, notes: Mapping[str, Any]) -> None:
    """Write the folder; `notes` (JSON-able) is stored in config.json for people, and never read."""
    weights = {
        f"{prefix}.{name}": tensor
        for prefix, network in model.networks().items()
        for name, tensor in network.state_dict().items()
    }
    folder = Path(folder)
    save_tensors(folder / WEIGHTS, weights, {"belongs_to": _identity(model.vocabulary, model.transform)})
    model.vocabulary.save(folder / VOCAB)
    # written last: marks the folder as complete
    write_json(folder / CONFIG, {"format": FORMAT, **model.config(), "notes": notes})


def hand_on(source: Path, folder: Path) -> None:
    """Link the model in `source` unchanged into `folder`."""
    for name in (WEIGHTS, VOCAB, CONFIG):
        link(source / name, folder / name)


def serve_model(
    source: Path, folder: Path, search: SearchParams, scores: Mapping[str, float | None],
    others: Sequence[Path | str] = (), confidence: Confidence | None = None, neighbours: Neighbours | None = None,
) -> None:  # fmt: skip
    """Write the bundle that is served: the model in `source` (linked, not copied), the search settings that it was
    scored with, its scores, its confidence calibration and the training images that it remembers; and the models in
    `others`, when they were scored as an ensemble."""
    names = [f"others/{number}" for number, _ in enumerate(others, start=1)]
    for other, name in zip(others, names, strict=True):
        _link_model(Path(other), folder / name)
    config = _link_model(source, folder)
    save_confidence(folder, confidence)
    if names:
        config["others"] = names
    if confidence is not None:
        config["confidence"] = CONFIDENCE
    if neighbours is not None:
        neighbours.save(folder / NEIGHBOURS)
        config["neighbours"] = NEIGHBOURS
    else:
        (folder / NEIGHBOURS).unlink(missing_ok=True)
    write_json(folder / CONFIG, {**config, "search": search.model_dump(), "scores": dict(scores)})


def _link_model(source: Path, folder: Path) -> dict[str, Any]:
    """Write a bundle of the model alone, as its own stage wrote it; returns its configuration."""
    for name in (WEIGHTS, VOCAB):
        link(source / name, folder / name)
    config = read_json(source / CONFIG)
    served = ("search", "scores", "others", "confidence", "neighbours")  # keys that `serve_model` adds
    alone = {key: value for key, value in config.items() if key not in served}
    write_json(folder / CONFIG, alone)
    return alone


def load_bundle(folder: Path | str) -> Bundle:
    """The bundle in `folder`; `UserError` naming both when two of its parts do not fit each other."""
    folder = Path(folder)
    config = _config(folder)
    confidence = _confidence(config, folder)  # before the networks: it takes no time
    model, others = _model(config, folder), tuple(load_model(folder / name) for name in config.others)
    search = config.search or PLAIN
    neighbours = None
    if config.neighbours is not None:
        neighbours = Neighbours.load(folder / config.neighbours, model.encoder.channels, len(model.vocabulary))
    elif search.needs_images:  # detection_weight needs none: models of earlier versions may have neither
        needed = f"search.{search.needs_images} needs {NEIGHBOURS}, and none is named"
        raise UserError(f"{folder / CONFIG}: {needed}; run `dvc repro`")
    return Bundle(model, search, others, confidence, neighbours)


def load_models(folder: Path | str) -> list[Model]:
    """The model in `folder` and, of an ensemble's bundle, the others."""
    others = _config(Path(folder)).others
    return [load_model(folder), *(load_model(Path(folder, name)) for name in others)]


def load_model(folder: Path | str) -> Model:
    """The model in `folder` alone, without search settings and scores."""
    return _model(_config(Path(folder)), Path(folder))


def _config(folder: Path) -> BundleConfig:
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} holds no model (no config.json); train one with `dvc repro`")
    return checked_config(read_json(folder / CONFIG), str(folder / CONFIG))


def _confidence(config: BundleConfig, folder: Path) -> Confidence | None:
    """The calibration that `config` names. Earlier versions did not name it: a file without a name is refused, since it
    could as well be another model's."""
    if config.confidence is not None:
        return load_confidence(folder / config.confidence)
    if (folder / CONFIDENCE).exists():
        raise UserError(
            f"{folder / CONFIG} does not name {CONFIDENCE}, which lies beside it; `dvc repro` writes both anew "
            "(without that file the bundle loads, and has no confidence)"
        )
    return None


def _model(config: BundleConfig, folder: Path) -> Model:
    vocabulary = Vocabulary.load(folder / VOCAB)
    if config.vocabulary != vocabulary.hash:
        trained = one_line(config.vocabulary)
        raise UserError(f"{folder}: trained with vocabulary {trained}, vocab.json is {vocabulary.hash}")
    return _built(config, vocabulary, folder)


def _identity(vocabulary: Vocabulary, transform: Transform) -> str:
    """What the weights were trained for, as readable text."""
    return f"vocabulary {vocabulary.hash}, transform {transform.hash}"


def _built(config: BundleConfig, vocabulary: Vocabulary, folder: Path) -> Model:
    """The model that `config` describes, with the weights of its file. A vocabulary of the same size with other words
    would fit as well, so the file records what it belongs to. Sizes are checked before memory is allocated."""
    path, transform = folder / WEIGHTS, Transform(**config.transform.model_dump())
    if config.encoder.get("size") != transform.size:
        raise UserError(
            f"{folder / CONFIG}: the encoder takes images of {one_line(config.encoder.get('size'))} pixels, the "
            f"transform makes them {transform.size}"
        )
    header, identity = read_header(path), _identity(vocabulary, transform)
    belongs_to = header.metadata.get("belongs_to", identity)
    if belongs_to != identity:
        raise UserError(f"{path} belongs to {one_line(belongs_to)}, its folder has {identity}")
    encoder = _encoder(config, folder / CONFIG)
    networks: dict[str, nn.Module] = {"encoder": encoder}
    try:
        with shapes_only():  # the configuration may ask for any size
            networks |= _speaking(config, encoder, len(vocabulary))
    except (RuntimeError, OverflowError) as error:
        raise UserError(f"{folder / CONFIG} describes no network that can be built: {one_line(error)}") from None
    wanted = {f"{name}.{key}": t for name, network in networks.items() for key, t in network.state_dict().items()}
    if reason := difference(wanted, header):
        raise UserError(f"{path} does not hold the weights that config.json describes: {reason}")
    with Uninitialised():
        networks = {"encoder": encoder, **_speaking(config, encoder, len(vocabulary))}
    weights = load_tensors(path)
    for name, network in networks.items():
        mine = {key.removeprefix(f"{name}."): t for key, t in weights.items() if key.startswith(f"{name}.")}
        network.load_state_dict(mine)
    decoder, detector = cast(Decoder, networks["decoder"]), cast(WordDetector | None, networks.get("detector"))
    if detector is not None and (detector.words.min() < 0 or detector.words.max() >= len(vocabulary)):
        raise UserError(f"{path}: the tensor detector.words names words that vocab.json does not have")
    shape = config.decoder, vocabulary, transform, config.precision
    return Model(encoder, decoder, *shape, detector)


def _encoder(config: BundleConfig, where: Path) -> Encoder:
    """The encoder, with any weights."""
    try:
        with Uninitialised():
            encoder = Encoder(config.encoder)
        encoder.output(torch.zeros(1, encoder.cells, encoder.channels))  # uses the keys that building does not read
        return encoder
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{where} is not a model's configuration: encoder: {one_line(told)}") from None


def _speaking(config: BundleConfig, encoder: Encoder, words: int) -> dict[str, nn.Module]:
    """The decoder and, if there is one, the detector, on torch's current default device."""
    networks: dict[str, nn.Module] = {"decoder": build_decoder(config.decoder, encoder.channels, words)}
    if config.detector is not None:
        networks["detector"] = WordDetector(encoder, Words.zeros(config.detector.words, words))
    return networks
