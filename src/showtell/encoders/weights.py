"""Weights of torchvision's networks: from torchvision, from this package, from a file, or random.

No code in a weights file is run: only tensors are read, from torchvision's cache as from any other file.
"""

import hashlib
import json
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.files import atomic, check_readable
from showtell.core.initialisation import built
from showtell.core.paths import given
from showtell.core.tensor_files import unusable
from showtell.core.terminal import cut
from showtell.data.transform import Filter
from showtell.encoders import pretrained
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.torchvision_package import torchvision_models

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")
WEIGHTS_FILE = f"a file whose name ends in {', '.join(WEIGHTS_SUFFIXES[:-1])} or {WEIGHTS_SUFFIXES[-1]}"

# Two networks have auxiliary heads for training, take minutes to initialise, and expect inputs normalised in another
# way, which torchvision switches on only together with its weights. A network rebuilt without these options would
# differ.
_INCEPTIONS = {"init_weights": False, "transform_input": True, "aux_logits": False}
_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _INCEPTIONS, "inception_v3": _INCEPTIONS}
# Networks that compute with tensors while they are built: on the meta device torch would import its compiler for that.
_COMPUTING = ("convnext_", "maxvit_", "regnet_", "swin_")
_AUXILIARY = re.compile(r"(aux1|aux2|AuxLogits)\.")
_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # names in the published DenseNet weights


def networks() -> list[str]:
    """torchvision's classification networks, as `encoder.name` spells them."""
    models = torchvision_models()
    return sorted(models.list_models(module=models))


def bare_network(name: str, size: int = 224) -> nn.Module:
    """A classification network of torchvision with random initial weights (`initialisation.built`), for pictures of
    `size` pixels where its weights depend on that: those of vision transformers do."""
    models = torchvision_models()
    if name not in (known := models.list_models(module=models)):
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "`showtell encoders` lists them"
        raise UserError(f"encoder.name = {name!r} is not a classification model of torchvision.models; {hint}")
    options = _OPTIONS.get(name, {})
    if name.startswith("vit_"):
        patch, options = int(name.rpartition("_")[2]), {"image_size": size}
        if size % patch:
            raise UserError(
                f"{name} cuts pictures into patches of {patch} x {patch} pixels: set resize.size (or encoder.crop) to "
                f"a multiple of {patch}, not {size}"
            )
    network = partial(models.get_model, name, weights=None, **options)
    return network() if name.startswith(_COMPUTING) else built(network)


def load_weights(network: nn.Module, name: str, weights: str, used: Collection[str] | None = None) -> ImageStatistics:
    """Fill the network called `name`; returns the statistics of its images, ImageNet's unless the weights bring others.

    `weights` is DEFAULT or another of torchvision's names (downloaded once, into torch's cache), the name of weights in
    this package that `check_shipped` has accepted, `none`, or the path of a state dict. Only tensors that are not among
    `used` (None: all) may be missing, as networks that learnt without labels have no classifier, or be of another
    number of classes. `UserError` for anything else, for a file with other content, and when the download fails.
    """
    if weights in pretrained.SHIPPED:
        made, state = _shipped(weights)
        network.load_state_dict(state, strict=False)
        return _statistics(made)
    if weights.endswith(WEIGHTS_SUFFIXES):
        _fill(network, name, read_state(given(weights)), f"encoder.weights = {weights!r}", used)
    elif weights != "none":
        _fill(network, name, _published(_known(name, weights).url), f"encoder.weights = {weights!r}", used)
    return image_statistics(name, weights)


def image_statistics(name: str, weights: str) -> ImageStatistics:
    """The image statistics of these weights; nothing is read or downloaded."""
    if weights == "none" or weights.endswith(WEIGHTS_SUFFIXES):
        return ImageStatistics()
    if weights in pretrained.SHIPPED:
        return _statistics(_shipped(weights)[0])
    transform = _known(name, weights).transforms()
    filter_: Filter = "bicubic" if transform.interpolation.value == "bicubic" else "bilinear"
    return ImageStatistics(tuple(transform.mean), tuple(transform.std), filter_, transform.crop_size[0])


def _known(name: str, weights: str) -> Any:
    """torchvision's enum member for these weights."""
    known = torchvision_models().get_model_weights(name)
    if weights not in known.__members__:
        names = ", ".join(entry.name for entry in known)
        raise UserError(
            f"encoder.weights = {weights!r}: {name} knows DEFAULT, {names}, none, {', '.join(pretrained.SHIPPED)}, "
            f"or {WEIGHTS_FILE}"
        )
    return known[weights]


def _shipped(weights: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and state dict of this package's weights called `weights`."""
    path = pretrained.SHIPPED[weights]
    if not path.is_file():
        raise UserError(f"encoder.weights = {weights!r}: there is no {path}; install showtell anew or `make encoder`")
    with safe_open(path, "pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)


def _statistics(made: Mapping[str, str]) -> ImageStatistics:
    mean, std = (tuple(json.loads(made[key])) for key in ("mean", "std"))
    return ImageStatistics(mean, std, size=int(made["size"]))


def check_shipped(name: str, weights: str, node: str | None) -> None:
    """`UserError` where `weights` are of this package, but not of the network called `name` up to `node`."""
    if weights not in pretrained.SHIPPED:
        return
    made, _ = _shipped(weights)
    for key, asked in (("name", name), ("node", node)):
        if made[key] != asked:
            raise UserError(
                f"encoder.weights = {weights!r} are of {made['name']} up to {made['node']}, and encoder.{key} is "
                f"{'null' if asked is None else cut(asked)}: set it to {made[key]}"
            )


def save_shipped(path: Path, encoder_config: Mapping[str, Any], network: nn.Module) -> None:
    """Write the weights of `network`, an encoder's, in half precision, with the metadata that `_shipped` reads."""
    state = {
        key: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
    made = {key: str(encoder_config[key]) for key in ("name", "node", "size")}
    made |= {key: json.dumps(encoder_config[key]) for key in ("mean", "std")}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata=made)


def _published(url: str) -> Any:
    """The state dict at `url`, from torch's cache if it is there."""
    cached = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if cached.exists():
        _check_hash(cached)
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise UserError(
            f"cannot download {url} ({reason}); bring the file and put it in {cached.parent}, "
            "or set encoder.weights to its path"
        ) from None
    except Exception as error:  # a wrong checksum, or a file that cannot be parsed
        raise UserError(f"what came from {url} is damaged ({_reason(error)}); run the same command again") from None


def _check_hash(cached: Path) -> None:
    """Check a cached file: the name of a published file ends in the first digits of its SHA-256."""
    expected = cached.stem.rpartition("-")[2]
    with open(cached, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise UserError(
            f"{cached} is damaged: its checksum begins with {found[: len(expected)]}, not {expected}; delete it"
        )


def read_state(path: Path) -> Any:
    """The content of a weights file, tensors only."""
    asked = f"encoder.weights = {str(path)!r}"
    if not path.is_file():
        raise UserError(f"{asked}: {'it is a folder, not a file' if path.is_dir() else 'no such file'}")
    check_readable(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # about damaged files; the error below is enough
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # damaged files raise exceptions of many types
        raise UserError(
            f"{asked} is damaged or holds more than tensors ({_reason(error)}), and nothing in it was run; "
            "save a state dict, with torch.save(model.state_dict(), path)"
        ) from None
    if is_state_dict(state) and (reason := unusable(state)):
        raise UserError(f"{asked}: {reason}")
    return state


def is_state_dict(state: Any) -> bool:
    """Whether `state` maps names to tensors."""
    return isinstance(state, Mapping) and all(isinstance(tensor, Tensor) for tensor in state.values())


def check_state_dict(state: Any, asked: str) -> None:
    """`UserError` for anything but names with tensors; `asked` is the setting that names the file."""
    if is_state_dict(state) and state:
        return
    parts = state.items() if isinstance(state, Mapping) else ()
    key = next((key for key, part in parts if is_state_dict(part) and part), None)
    within = "" if key is None else f"; there is one in its part {cut(key)}: save that alone"
    raise UserError(f"{asked} does not hold a state dict, a tensor for each name{within}")


def _fill(network: nn.Module, name: str, state: Any, asked: str, used: Collection[str] | None) -> None:
    check_state_dict(state, asked)
    names = {key: _OLD_DENSE_LAYER.sub(r"\1\2.", key) for key in state if not _AUXILIARY.match(key)}
    kept = _at_size(network, OrderedDict((new, state[key]) for key, new in names.items()))
    wanted = network.state_dict()
    used = wanted if used is None else used
    for key in [key for key in kept if key in wanted and key not in used and _other_classes(key, wanted, kept)]:
        del kept[key]
    reason = _difference(wanted, kept, used)
    if reason:
        raise UserError(f"{asked} does not hold a state dict of {name}: {reason}")
    # MNASNet asks for the version of its state dict, which .safetensors files do not have.
    kept._metadata = getattr(state, "_metadata", None) or {"": {"version": 2}}  # type: ignore[attr-defined]
    network.load_state_dict(kept, strict=False)


def _at_size(network: nn.Module, state: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
    """`state`; of a vision transformer, with its position embeddings interpolated to the network's number of
    patches."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    if not isinstance(network, VisionTransformer):
        return state
    try:
        return interpolate_embeddings(network.image_size, network.patch_size, state)
    except (KeyError, ValueError):  # not a vision transformer's: told by what is missing
        return state


def _other_classes(key: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Whether the layer of `key` has another number of outputs than the network's, all its tensors the same."""
    layer = key.rpartition(".")[0]
    parts = [part for part in (f"{layer}.weight", f"{layer}.bias") if part in state]
    rows = {state[part].shape[:1] for part in parts}
    fits = all(part in wanted and state[part].shape[1:] == wanted[part].shape[1:] for part in parts)
    return key in parts and fits and len(rows) == 1 and rows != {wanted[key].shape[:1]}


def _difference(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], used: Collection[str]) -> str:
    """Why `state` does not fit the network, in a few words; empty when it does. Tensors that are not `used` may be
    missing."""
    # Batch counters, which old files lack, do not affect the output.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if not set(missing).isdisjoint(used):
        others = next((f"; others are there, such as {cut(key)}" for key in state if key not in wanted), "")
        return f"{len(missing)} of its {len(wanted)} tensors are missing, such as {missing[0]}{others}"
    other = [key for key in state if key not in wanted]
    if other:
        return f"{len(other)} tensors are not of this network, such as {other[0]}"
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            return f"{key} has shape {_shape(tensor)}, not {_shape(wanted[key])}"
    return ""


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "its pickle asks for more than tensors"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
