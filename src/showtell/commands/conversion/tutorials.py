"""Models of well-known PyTorch tutorials as bundles: the same weights with this package's names and token order.

- Show, attend and tell (`BEST_checkpoint_*.pth.tar` and its WORDMAP): ResNet of any depth, soft attention over a grid
  pooled to 14 x 14.
- The first captioning tutorial (encoder's and decoder's state dicts and its pickled vocabulary): ResNet of any depth,
  the image's vector is the LSTM's first input.

Files are read by `inert_pickle.py`, which runs no code in them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from showtell.commands.conversion.inert_pickle import Record, module_state, read_checkpoint
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.core.initialisation import Uninitialised, shapes_only
from showtell.core.terminal import one_line
from showtell.data.transform import Transform
from showtell.data.vocabulary import SPECIALS, Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.network import Encoder
from showtell.generation.model import Model
from showtell.generation.search_params import PLAIN, SearchParams

# ResNets by the number of blocks in their third stage and of convolutions in a block.
RESNETS = {(2, 2): "resnet18", (6, 2): "resnet34", (6, 3): "resnet50", (23, 3): "resnet101", (36, 3): "resnet152"}
# The tutorials wrap a network's children in a Sequential: they are numbered there, named here.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}

ATTEND_NAMES = {
    "attention.encoder_att": "key", "attention.decoder_att": "query", "attention.full_att": "energy",
    "embedding": "embedding", "decode_step": "cell", "init_h": "initial.0", "init_c": "initial.1", "f_beta": "gate",
    "fc": "output",
}  # fmt: skip
INJECT_NAMES = {"embed": "embedding", "lstm": "network", "linear": "output"}
IMAGE_NAMES = {"linear": "project.0", "bn": "project.1"}
PER_WORD = ("embedding.weight", "output.weight", "output.bias")  # a row for each word


class Converted(NamedTuple):
    """A tutorial's model, and the settings of its own caption function."""

    model: Model
    search: SearchParams


def convert_attend(checkpoint: Path, wordmap: Path) -> Converted:
    """Show, attend and tell: pickled modules in a dict, and a JSON file of word indices."""
    content = read_checkpoint(checkpoint)
    if not isinstance(content, dict) or not {"encoder", "decoder"} <= content.keys():
        raise UserError(f"{checkpoint} is not a show-attend-tell checkpoint: no encoder and decoder in it")
    encoder_state, decoder_state = (module_state(content[key]) for key in ("encoder", "decoder"))
    vocabulary, rows = _vocabulary(read_json(wordmap), wordmap)
    encoder = _encoder(encoder_state, checkpoint, {"output": "grid", "size": 256})
    weights = _renamed(decoder_state, ATTEND_NAMES, rows, checkpoint)
    shape = {
        "kind": "attention", "attention_kind": "soft", "attention": _size(weights, "key.weight", checkpoint),
        "grid": 14, "normalise_grid": False, "initial_tanh": False, "context_output": False,
        **_recurrent(weights, "cell.weight_hh", checkpoint),
    }  # fmt: skip
    model = _model(encoder, shape, weights, vocabulary, Transform(256, "stretch"), checkpoint)
    return Converted(model, _search(beam=5, max_length=51))  # its loop checks the limit after adding the word


def convert_inject(encoder_file: Path, decoder_file: Path, vocabulary_file: Path) -> Converted:
    """The first tutorial: two state dicts, and a pickled object with word indices."""
    encoder_state, decoder_state = (module_state(read_checkpoint(path)) for path in (encoder_file, decoder_file))
    record = read_checkpoint(vocabulary_file)
    words = record.attributes.get("word2idx") if isinstance(record, Record) else None
    vocabulary, rows = _vocabulary(words, vocabulary_file)
    encoder = _encoder(encoder_state, encoder_file, {"output": "pooled", "size": 224})
    weights = _renamed(encoder_state, IMAGE_NAMES, None, encoder_file)
    weights |= _renamed(decoder_state, INJECT_NAMES, rows, decoder_file)
    shape = {
        "kind": "pre_inject", "image_projection": "batch_norm",
        **_recurrent(weights, "network.weight_hh_l0", decoder_file),
        "layers": sum(name.startswith("network.weight_hh_l") for name in weights),
    }  # fmt: skip
    model = _model(encoder, shape, weights, vocabulary, Transform(224, "stretch"), decoder_file)
    return Converted(model, _search(beam=1, max_length=19))  # 20 words, the first of which is <start>


def _search(beam: int, max_length: int) -> SearchParams:
    plain = {"length_penalty": 0.0, "block_ngrams": 0, "allow_unknown": True, "detection_weight": 0.0}
    return PLAIN.override(beam=beam, max_length=max_length, **plain)


def _vocabulary(numbers: Any, source: Path) -> tuple[Vocabulary, Tensor]:
    """The vocabulary in this package's order, and for each token its row in the tutorial's weights."""
    if not isinstance(numbers, dict) or not all(
        isinstance(word, str) and type(number) is int for word, number in numbers.items()
    ):
        raise UserError(f"{source} is not a map of words to numbers")
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError(f"{source}: its {len(numbers)} words do not have the numbers 0 to {len(numbers) - 1}, one each")
    if any("\ud800" <= letter <= "\udfff" for word in numbers for letter in word):
        raise UserError(f"{source}: a word is not valid Unicode (a surrogate without its other half)")
    missing = [special for special in SPECIALS if special not in numbers]
    if missing:
        raise UserError(f"{source} has no {', '.join(missing)}")
    words = sorted(numbers.keys() - set(SPECIALS), key=lambda word: numbers[word])
    rows = torch.tensor([numbers[word] for word in (*SPECIALS, *words)])
    return Vocabulary(words, [0] * len(words)), rows


def _encoder(state: Mapping[str, Tensor], source: Path, config: dict[str, Any]) -> Encoder:
    """The ResNet whose children are `resnet.0`, `resnet.1`, ... in `state`."""
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "resnet" and len(parts) > 2 and parts[1] in CHILDREN:
            weights[".".join([CHILDREN[parts[1]], *parts[2:]])] = tensor
    blocks = {name.split(".")[1] for name in weights if name.startswith("layer3.")}
    convolutions = {name.split(".")[2] for name in weights if name.startswith("layer3.0.conv")}
    network = RESNETS.get((len(blocks), len(convolutions)))
    if network is None:
        held = f"its encoder has {len(weights)} tensors"
        raise UserError(f"{source} holds no ResNet that the tutorials use ({held}){_likely_cause(state)}")
    imagenet = ImageStatistics()
    with Uninitialised():
        encoder = Encoder({"name": network, "node": None, **config, "mean": imagenet.mean, "std": imagenet.std})
    _fill(encoder.backbone.network, _complete(encoder.backbone.network, weights, source))
    return encoder.eval()


def _likely_cause(state: Mapping[str, Tensor]) -> str:
    """Why `state` holds no encoder, and what to do, where its names tell; else empty."""
    if any(name.startswith("lstm.") for name in state):
        return "; it looks like the decoder: the encoder comes first"
    if state and all(name.startswith("module.") for name in state):  # of DataParallel
        return "; its names begin with module.: save model.module.state_dict()"
    return ""


def _renamed(
    state: Mapping[str, Tensor], names: Mapping[str, str], rows: Tensor | None, source: Path
) -> dict[str, Tensor]:
    """The tensors of `state` under this package's names; rows of words reordered."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        prefix, _, last = name.rpartition(".")
        if prefix not in names:
            continue
        ours = f"{names[prefix]}.{last}"
        if rows is not None and ours in PER_WORD:
            count = len(tensor) if tensor.dim() else 1
            if count != len(rows):
                raise UserError(f"{source} is of {count} words, the map of words has {len(rows)}")
            tensor = tensor[rows]
        found[ours] = tensor
    return found


def _size(weights: Mapping[str, Tensor], name: str, source: Path, dimension: int = 0) -> int:
    if name not in weights or weights[name].dim() <= dimension:
        raise UserError(f"{source} is not a decoder of the tutorial: its {name} is missing")
    return weights[name].shape[dimension]


def _recurrent(weights: Mapping[str, Tensor], recurrent: str, source: Path) -> dict[str, Any]:
    """Keys of params.yaml common to all recurrent decoders. Dropout has no effect in inference."""
    return {
        "cell": "lstm", "layers": 1, "hidden": _size(weights, recurrent, source, 1), "tied": False, "dropout": 0.0,
        "embedding": _size(weights, "embedding.weight", source, 1), "embeddings": None, "train_embeddings": True,
    }  # fmt: skip


def _model(
    encoder: Encoder, shape: dict[str, Any], weights: Mapping[str, Tensor], vocabulary: Vocabulary,
    transform: Transform, source: Path,
) -> Model:  # fmt: skip
    try:
        params = DecoderParams.model_validate(shape)
    except ValidationError as error:
        raise UserError(f"{source} is not a decoder of the tutorial: {one_line(error.errors()[0]['msg'])}") from None
    with shapes_only():  # sizes of the file multiply: a small one could ask for all of the memory
        complete = _complete(build_decoder(params, encoder.channels, len(vocabulary)), weights, source)
    with Uninitialised():
        decoder = build_decoder(params, encoder.channels, len(vocabulary))
    _fill(decoder, complete)
    return Model(encoder, decoder, params, vocabulary, transform, "fp32")


def _complete(network: nn.Module, weights: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """`weights` without batch-norm counters, if they are those of `network`, finite and of its sizes."""
    wanted = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name in sorted(wanted.keys() ^ {name for name in weights if not name.endswith("num_batches_tracked")}):
        where = "has no" if name in wanted else "has a tensor too many,"
        raise UserError(f"{source} is not a model of the tutorial: it {where} {one_line(name)}")
    for name, tensor in wanted.items():
        if weights[name].shape != tensor.shape or not weights[name].isfinite().all():
            raise UserError(f"{source}: {name} is not a tensor of finite numbers of size {tuple(tensor.shape)}")
    return {name: weights[name] for name in wanted}


def _fill(network: nn.Module, complete: Mapping[str, Tensor]) -> None:
    """Load weights that are `_complete`; batch-norm counters stay as they are."""
    network.load_state_dict(complete, strict=False)
