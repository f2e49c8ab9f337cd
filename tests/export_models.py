"""Captioners with random weights, one for every kind of graph that can be exported."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from conftest import tiny_params
from decoder_systems import unread
from PIL import Image
from tiny_model import WORDS

from showtell.core.tensor_files import tensors_hash
from showtell.data.transform import Transform
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.detection import WordDetector, Words
from showtell.encoders.network import Encoder
from showtell.generation.captioner import Captioner
from showtell.generation.model import Model
from showtell.generation.search_params import PLAIN

TRANSFORMER = unread("transformer") | {
    "kind": "transformer", "layers": 2, "heads": 2, "feed_forward": 12, "positions": "sinusoidal", "grid_layers": 1,
    "memory_slots": 2, "normalise_grid": True,
}  # fmt: skip
# Decoder, search, encoder and transform: each entry takes another path through the graph.
MODELS: dict[str, tuple[dict, dict, dict]] = {
    "attention": ({}, {"block_ngrams": 2, "block_around": "on", "detection_weight": 0.7}, {}),
    "attention, hard, GRU of two layers, pooled grid": (
        {"attention_kind": "hard", "hard_reward": 1.0, "hard_entropy": 0.1, "cell": "gru", "layers": 2, "grid": 3},
        {"block_ngrams": 1, "min_length": 4}, {"fit": "crop", "levels": ["conv1", "layer1"]},
    ),
    "pre_inject": (
        unread("pre_inject") | {"kind": "pre_inject", "image_projection": "batch_norm"},
        {"min_length": 3, "block_ngrams": 3},
        {"output": "pooled", "node": None, "filter": "bicubic"},
    ),
    "init_inject": (
        unread("init_inject")
        | {"kind": "init_inject", "image_projection": "prelu", "cell": "gru", "initial_tanh": True},
        {"allow_unknown": True}, {},
    ),
    "transformer": (TRANSFORMER, {"block_ngrams": 2, "detection_weight": 0.5, "patience": 2.5}, {}),
    "vision transformer": ({}, {}, {"name": "timm/test_vit", "node": None}),
}  # fmt: skip


_CONVERTED: dict[tuple[str, ...], bytes] = {}


@pytest.fixture(scope="module", autouse=True)
def kept_conversions() -> Iterator[None]:
    """PyTorch's conversion of a program to ONNX, which takes seconds, is kept for other tests with the same code and
    weights; what showtell makes of it is made anew. Importing this fixture puts it to use."""
    import onnx
    from torch.onnx._internal.exporter import _registration

    from showtell.generation.graphs import onnx_files

    convert = onnx_files._exported

    def converted(program, inputs, outputs):
        code = (line for line in str(program).splitlines() if "# File: " not in line)  # these name earlier traces
        weights = tensors_hash({**program.state_dict, **program.constants})
        key = (*code, weights, *inputs, "->", *outputs)
        if key not in _CONVERTED:
            _CONVERTED[key] = convert(program, inputs, outputs).SerializeToString()
        return onnx.load_from_string(_CONVERTED[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_files, "_exported", converted)
        registry = _registration.ONNXRegistry  # every conversion would read the library of operators again
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield


@cache
def captioner(name: str) -> Captioner:
    """A model with random weights, large enough that its captions depend on the picture."""
    decoder, search, more = MODELS[name]
    if more.get("name", "").startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(3)
    config = {"name": "resnet18", "output": "grid", "node": "layer2", "size": 32} | {
        key: value for key, value in more.items() if key in ("name", "output", "node", "levels")
    }
    encoder = Encoder(config | {"mean": ImageStatistics().mean, "std": ImageStatistics().std})
    params = DecoderParams.model_validate(tiny_params()["decoder"] | decoder)
    vocabulary = Vocabulary(WORDS, range(len(WORDS), 0, -1))
    built = build_decoder(params, encoder.channels, len(vocabulary))
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(3)
        for module in built.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
    detector = None
    if search.get("detection_weight"):
        detector = WordDetector(encoder, Words(torch.tensor([4, 6, 9]), -torch.rand(len(vocabulary))))
    transform = Transform(32, more.get("fit", "stretch"), more.get("filter", "bilinear"))
    model = Model(encoder, built, params, vocabulary, transform, "fp32", detector)
    return Captioner(model, PLAIN.override(max_length=12).override(**search))


def says_after(logits: torch.Tensor) -> Captioner:
    """A captioner whose next word depends on the last one alone, by `logits` (last word, next word)."""
    other, words = captioner("init_inject").model, len(logits)
    more = {"kind": "init_inject", "embedding": None, "hidden": words, "image_projection": "linear"}
    params = DecoderParams.model_validate(tiny_params()["decoder"] | unread("init_inject") | more)
    built = build_decoder(params, other.encoder.channels, words)
    with torch.no_grad():
        for weight in built.parameters():
            weight.zero_()
        built.network.weight_ih_l0.unflatten(0, (4, words))[2].copy_(20 * torch.eye(words))  # tanh of it is 1
        for gate, value in zip(built.network.bias_ih_l0.unflatten(0, (4, words)), (20, -20, 0, 20), strict=True):
            gate.fill_(value)  # open but for the forget gate, so that nothing of the state before stays
        built.output.weight.copy_(logits.T / torch.tensor(1.0).tanh())
    return Captioner(Model(other.encoder, built, params, other.vocabulary, other.transform, "fp32"), PLAIN)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(soft)
