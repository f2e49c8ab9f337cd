"""timm's networks up to one of their feature maps, `encoder.name: timm/NAME`: CNNs, vision transformers, hybrids.

timm brings the maps of all networks into one form (`forward_intermediates`): channels-last maps are transposed, class
and register tokens left out.
"""

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.hub import asking_hub
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.core.terminal import cut
from showtell.encoders.backbone import Backbone, EveryOtherPixel, ImageStatistics, containing
from showtell.encoders.folding import norms_folded
from showtell.encoders.timm_names import PREFIX, full_name, image_statistics, timm_package
from showtell.encoders.trace import Trace, trace
from showtell.encoders.weights import WEIGHTS_SUFFIXES, check_state_dict, read_state

# Exceptions of networks that cannot do what is asked: remove the head, normalise a map, take another image size.
_REFUSALS = (AssertionError, AttributeError, NotImplementedError, TypeError, ValueError)


class TimmBackbone(Backbone):
    """A network of timm. Its map is the output of layer number `index`; without one, its last map or, with `hidden`,
    the input of its classifier. `levels` are the numbers of earlier layers by name."""

    network: Any  # timm's networks have methods that their types do not declare

    def __init__(
        self, network: nn.Module, node: str | None, size: int, index: int | None = None, norm: bool = False,
        channels_last: bool = False, hidden: bool = False, levels: Mapping[str, int] = MappingProxyType({}),
    ):  # fmt: skip
        super().__init__(network, node, list(levels))
        self.size, self.index, self.norm, self.channels_last, self.hidden = size, index, norm, channels_last, hidden
        self._level_indices = list(levels.values())
        self._trace: Trace | None = None

    def maps(self, images: Tensor) -> list[Tensor]:
        if self.hidden:
            return [self.network(images).unsqueeze(1)]
        asked = [*self._level_indices, *([] if self.index is None else [self.index])]
        indices = sorted(asked)  # the order in which timm returns their maps
        form = {"indices": indices, "output_fmt": "NCHW"}
        if self.index is not None:
            found = self.network.forward_intermediates(images, norm=self.norm, intermediates_only=True, **form)
            last = found[indices.index(self.index)]
        elif self.levels:
            last, found = self.network.forward_intermediates(images, **form)
        else:
            last, found = self.network.forward_features(images), []
        cells = last.flatten(1, 2) if self.channels_last else last.flatten(2).transpose(1, 2)
        return [cells, *(found[indices.index(index)] for index in self._level_indices)]

    @property
    def traced(self) -> Trace:
        if self._trace is None:
            where = next(self.network.parameters()).device
            self._trace = trace(self.network, lambda: self(torch.zeros(1, 3, self.size, self.size, device=where)))
        return self._trace

    def unused(self) -> set[str]:
        """Networks keep parts of their heads that no option of timm removes."""
        return self.traced.unused

    def blocks(self) -> dict[str, nn.Module]:
        """timm declares some networks' modules in another order (Twins, CoaT): it is taken from a run."""
        modules = super().blocks()
        first: dict[str, int] = {}  # of each module and of what it is in, the first call
        for place, name in enumerate(self.traced.order):
            for each in (name, *containing(name)):
                first.setdefault(each, place)
        latest = 0
        for name in modules:  # what is not called itself goes with what it is in, or comes after all declared before it
            latest = max(latest, first.setdefault(name, first.get(name.rpartition(".")[0], latest)))
        return {name: modules[name] for name in sorted(modules, key=first.__getitem__)}

    def simplified(self, learning: Set[nn.Module] = frozenset()) -> Backbone:
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules()):
            return self  # it need not be run for that
        layers = timm_package().layers
        foldable = {nn.Conv2d, EveryOtherPixel, layers.Conv2dSame, nn.BatchNorm2d, layers.BatchNormAct2d}
        network = norms_folded(self.network, self.traced.norms, foldable, learning)
        levels = dict(zip(self.levels, self._level_indices, strict=True))
        form = self.norm, self.channels_last, self.hidden
        return TimmBackbone(network, self.node, self.size, self.index, *form, levels)


def build(
    name: str, weights: str, output: str, node: str | None, levels: Sequence[str], size: int
) -> tuple[Backbone, ImageStatistics]:
    """The network `name` (timm/NAME or timm/NAME.TAG) for pictures of `size` pixels.

    `weights`: DEFAULT or a tag (from the Hub, into its cache), none, or a file. `node`: a layer of timm's
    `feature_info`; None: the last map, normalised where the network does so; for `output` hidden, the classifier's
    input. `levels`: earlier layers of `feature_info`, normalised as `node` is.
    """
    full = full_name(name, weights)
    network = _network(full, size, classes=0)
    if weights != "none":
        source = _from_file(full, size, weights) if weights.endswith(WEIGHTS_SUFFIXES) else _from_hub(full, size)
        _copy_weights(source, network, f"encoder.weights = {weights!r}")
    return _up_to(network.eval(), name, output, node, levels, size), image_statistics(name, weights)


def _network(full: str, size: int, classes: int, **more: Any) -> nn.Module:
    """`full` for pictures of `size` pixels, with random weights unless `more` says otherwise."""
    timm = timm_package()
    config = timm.get_pretrained_cfg(full)
    if not config.fixed_input_size:
        return timm.create_model(full, num_classes=classes, **more)
    try:
        return timm.create_model(full, num_classes=classes, img_size=size, **more)
    except TypeError:  # the network has no option for the image size
        if size != config.input_size[1]:
            fixed = config.input_size[1]
            raise UserError(
                f"{PREFIX}{full} takes pictures of {fixed} pixels only, not {size}; set resize.size: {fixed}"
            ) from None
        return timm.create_model(full, num_classes=classes, **more)


def _from_hub(full: str, size: int) -> nn.Module:
    """The network with its published weights, as timm loads them."""
    config = timm_package().get_pretrained_cfg(full)
    for note in config.notes or ():
        log(f"timm on {full}: {note}")
    try:
        with asking_hub():
            return _network(full, size, config.num_classes, pretrained=True)
    except Exception as error:  # the Hub's client raises exceptions of its own
        where = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
        file = f"{config.hf_hub_filename or 'model.safetensors'} from {where}" if config.hf_hub_id else where
        tagged = full if "." in full or not config.tag else f"{full}.{config.tag}"
        raise UserError(
            f"cannot get the weights {full} ({_one_line(error)}); bring {file} and set encoder.weights to its path, "
            f"and encoder.name to {PREFIX}{tagged}, which tells the image statistics"
        ) from None


def _from_file(full: str, size: int, weights: str) -> nn.Module:
    """The network with the weights of a file, whose tensors may be named as in timm or as their publisher named
    them."""
    state = read_state(given(weights))
    asked = f"encoder.weights = {weights!r}"
    check_state_dict(state, asked)
    reasons = []
    for classes in _classes(full, state):
        # Built with the file's number of classes, the network must get every weight, and the file may hold no others.
        overlay = {"state_dict": dict(state), "num_classes": classes, "label_offset": 0}
        try:
            return _network(full, size, classes, pretrained=True, pretrained_cfg_overlay=overlay)
        except UserError:
            raise
        except Exception as error:  # weights of another network raise exceptions of many types
            reasons.append(_one_line(error))
    raise UserError(f"{asked} does not hold a state dict of {full}: {reasons[0]}")


def _classes(full: str, state: Mapping[str, Tensor]) -> list[int]:
    """Candidates for the number of classes of a file's classifier: from its shapes, from timm's table, or none."""
    config = timm_package().get_pretrained_cfg(full)
    names = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
    rows = [len(state[f"{name}.weight"]) for name in names if f"{name}.weight" in state]
    return list(dict.fromkeys([*(rows or [config.num_classes]), 0]))


def _copy_weights(source: nn.Module, network: nn.Module, asked: str) -> None:
    """Copy all weights of `network` from `source`, which is the same network with a classifier."""
    state = source.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    missing = [name for name, tensor in network.state_dict().items() if shapes.get(name) != tensor.shape]
    if missing:
        raise UserError(f"{asked}: {len(missing)} tensors are missing, such as {missing[0]}")
    network.load_state_dict(state, strict=False)


def _up_to(network: Any, name: str, output: str, node: str | None, levels: Sequence[str], size: int) -> TimmBackbone:
    """`network` up to the map that is asked for; the layers after it are removed."""
    if output == "hidden" and node is None:
        return TimmBackbone(network, None, size, hidden=True)
    layers = _layers(network)
    for key, layer in (("node", node), *(("levels", level) for level in levels)):
        if layer is not None and layer not in layers:
            raise UserError(f"{name} has no layer {layer!r} (encoder.{key}); its maps are those of {', '.join(layers)}")
    below = {level: layers.index(level) for level in levels}
    if node is not None:
        if later := next((level for level in levels if below[level] > layers.index(node)), None):
            raise UserError(f"encoder.levels: {later} comes after encoder.node = {node}; name layers before it")
        return _at(network, layers, layers.index(node), size, below)
    probe = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        last = network.forward_features(probe)
    if isinstance(last, Tensor) and last.dim() == 4:
        channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        if last[0].numel() > network.num_features:  # a map of more than one cell
            _drop_head(network)
            return TimmBackbone(network, None, size, channels_last=channels_last, levels=below)
    elif layers and (backbone := _tokens(network, len(layers) - 1, size, below)):
        return backbone
    for index in reversed(range(len(layers) - 1)):
        with torch.no_grad():
            (x,) = network.forward_intermediates(probe, indices=[index], intermediates_only=True)
        if x.shape[2] * x.shape[3] > 1:
            return _at(network, layers, index, size, below)
    raise UserError(f"{name} has no map of more than one cell at {size} pixels; raise resize.size")


def _layers(network: nn.Module) -> list[str]:
    """Names of the layers whose maps `forward_intermediates` numbers from 0."""
    if not hasattr(network, "forward_intermediates"):
        return []
    info = getattr(network, "feature_info", [])
    return [layer["module"] for layer in getattr(info, "info", info)]


def _at(network: Any, layers: list[str], index: int, size: int, levels: Mapping[str, int]) -> TimmBackbone:
    """The network up to a layer in the middle; its map is not normalised."""
    try:
        network.prune_intermediate_layers([index], prune_norm=True, prune_head=True)
    except _REFUSALS:
        _drop_head(network)
    return TimmBackbone(network, layers[index], size, index, levels=levels)


def _tokens(network: nn.Module, index: int, size: int, levels: Mapping[str, int]) -> TimmBackbone | None:
    """A transformer's last tokens without class and register tokens, after its final norm where timm allows that.

    None where there is only one such token, or no map at all.
    """
    for norm in (True, False):
        backbone = TimmBackbone(network, None, size, index, norm, levels=levels)
        try:
            with torch.no_grad():
                cells = backbone(torch.zeros(1, 3, size, size)).shape[1]
        except _REFUSALS:
            continue
        if cells > 1:
            _drop_head(network)
            return backbone
    return None


def _drop_head(network: Any) -> None:
    try:
        network.reset_classifier(0, "")
    except _REFUSALS:
        with suppress(*_REFUSALS):  # networks without a classifier have no such method
            network.reset_classifier(0)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).replace("Error(s) in loading state_dict for ", "").split()) or type(error).__name__
    return cut(text, 160)
