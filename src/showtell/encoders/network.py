"""The encoder: a backbone from torchvision or timm between uint8 images and features.

Shapes: images uint8 (image, 3, height, width), 0-255, RGB. Features are `grid` (image, cell, channel), cells row by row
from the top left, or one vector an image, `pooled` and `hidden` (image, channel).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from showtell.core.errors import UserError, lacks_memory
from showtell.core.files import fingerprint
from showtell.core.progress import log
from showtell.core.tensor_files import tensors_hash
from showtell.encoders import timm_backbone, timm_names, torchvision_backbone
from showtell.encoders.backbone import Backbone, ImageStatistics, containing, with_levels, without_strided_points
from showtell.encoders.encoder_params import EncoderParams

BatchNormMode = Literal["frozen", "learning"]
Build = Callable[[str, str, str, str | None, Sequence[str], int], tuple[Backbone, ImageStatistics]]
# For each prefix of names the function `build(name, weights, output, node, levels, size)` of its library.
LIBRARIES: dict[str, Build] = {timm_names.PREFIX: timm_backbone.build, "": torchvision_backbone.build}


class Encoder(nn.Module):
    """A backbone with image normalisation before it and, if asked, pooling after it.

    `config` is all that is needed to rebuild it (name, node, levels, output, image size, crop, mean, std), JSON-able;
    the weights are in the state dict. With a crop, it uses the central `crop` x `crop` pixels of images of `size`
    pixels; images that are cropped already (by augmentation) are used whole.
    """

    def __init__(self, config: Mapping[str, Any], backbone: Backbone | None = None):
        """`backbone` None: build the one that `config` names, with random weights."""
        super().__init__()
        seen = _pixels_seen(config)
        if backbone is None:
            backbone, _ = _build(config, "none")
        if backbone.node in backbone.levels:
            raise UserError(f"encoder.levels: {backbone.node} is the grid itself (encoder.node); leave it out")
        self.backbone = _channels_last(without_strided_points(backbone))
        self.config = {**config, "node": backbone.node, **{key: list(config[key]) for key in ("mean", "std")}}
        self.name: str = config["name"]
        self.size: int = config["size"]
        self.crop: int | None = config.get("crop")
        self.gives_grid: bool = config["output"] == "grid"  # else one vector an image
        scale = 255.0  # images are 0-255, the statistics 0-1
        shape = (1, 3, 1, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config["mean"]).mul(scale).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).mul(scale).view(shape), persistent=False)
        self._frozen: list[nn.Module] = []  # modules without gradients, in eval mode
        self._resting: list[nn.Module] = []  # batch norms in eval mode, whose scale and shift learn
        self._simplified: list[Backbone] = []  # in a list, so that this copy is not in the state dict
        self._alone: list[BatchNorm] = []  # of maps of a single cell, as in squeeze and excitation
        self.freeze()
        with torch.no_grad(), _images_of(self.name, seen), _norms_of_one_cell(self.backbone, self._alone):
            own, *maps = self.eval().backbone.maps(self._normalised(torch.zeros(1, 3, seen, seen)))
        cells = with_levels(own, maps, backbone.levels)
        self.cells: int = cells.shape[1]  # cells of the map; 1 for hidden features without a map
        self.channels: int = cells.shape[2]
        self.own_channels: int = own.shape[2]  # the first ones; the others are those of levels
        self.shift: float = backbone.view_shift(self.size, isqrt(self.cells))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (image, 3, height, width) -> (image, cell, channel), or (image, channel) when pooled or hidden."""
        return self.output(self.feature_map(images))

    def output(self, cells: Tensor) -> Tensor:
        """The features for the decoder: the map (image, cell, channel) itself, or its mean (image, channel)."""
        return cells if self.gives_grid else cells.mean(dim=1)

    def feature_map(self, images: Tensor) -> Tensor:
        """The map that all outputs are computed from, (image, cell, channel): `grid` is the map, `pooled` its mean."""
        backbone, x = self._simplified[0] if self._simplified else self.backbone, self._normalised(images)
        if len(images) > 1 or not any(norm.training for norm in self._alone):
            return backbone(x)
        with self._norms_at_rest():
            return backbone(x)

    @contextmanager
    def _norms_at_rest(self) -> Iterator[None]:
        """Norm by the running statistics meanwhile: a single cell of a single image has no variance."""
        learning = [module for module in self.backbone.modules() if isinstance(module, BatchNorm) and module.training]
        for norm in learning:
            norm.eval()
        try:
            yield
        finally:
            for norm in learning:
                norm.train()

    def _normalised(self, images: Tensor) -> Tensor:
        x = (self._middle(images).float() - self.mean).div_(self.std)
        return x.contiguous(memory_format=torch.channels_last)

    def _middle(self, images: Tensor) -> Tensor:
        if self.crop is None or images.shape[2] <= self.crop:
            return images
        edge = (images.shape[2] - self.crop) // 2
        return images[:, :, edge : edge + self.crop, edge : edge + self.crop]

    def freeze(self) -> None:
        """Freeze all modules: no gradients, and batch-norm statistics stay fixed."""
        self._frozen, self._resting = list(self.backbone.network.modules()), []
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(False)
        self.train(self.training)

    def train_from(self, block: str | None, batch_norm: BatchNormMode = "learning") -> None:
        """Train `block` and the blocks after it; freeze those before it, batch norms included. None: train all.

        `batch_norm` of the blocks that learn: `learning` normalises by the statistics of each batch and updates the
        running statistics; `frozen` uses the present statistics, and only scale and shift learn.
        """
        modules = self.backbone.blocks()
        order = {name: position for position, name in enumerate(modules)}
        if block is not None and block not in order:
            blocks = ", ".join(name for name in order if "." not in name)
            raise UserError(f"{self.name} has no block {block!r}; its blocks are {blocks}")
        first = 0 if block is None else order[block]
        unused = self.backbone.unused()
        for name, parameter in self.backbone.network.named_parameters():
            parameter.requires_grad_(order.get(_owner(name), 0) >= first and name not in unused)
        if not any(parameter.requires_grad for parameter in self.backbone.network.parameters()):
            raise UserError(f"{self.name}: nothing from block {block!r} on is part of the map; name an earlier block")
        # A block that contains the cut has frozen parts before it and learning parts after it, and counts as learning.
        around = {before for name in order if order[name] >= first for before in containing(name)}
        self._frozen = [modules[name] for name in order if order[name] < first and name not in around]
        learning = [module for name, module in modules.items() if order[name] >= first]
        self._resting = [m for m in learning if isinstance(m, BatchNorm)] if batch_norm == "frozen" else []
        self.train(self.training)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer that has some, in the order in which the images pass the layers.

        What the network itself holds (a class token, positions) belongs to the first.
        """
        order = list(self.backbone.blocks())
        by_layer: dict[str, list[nn.Parameter]] = {name: [] for name in order}
        for name, parameter in self.backbone.network.named_parameters():
            by_layer[_owner(name) or order[0]].append(parameter)
        return [parameters for parameters in by_layer.values() if parameters]

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for module in (*self._frozen, *self._resting):
            module.eval()
        self._simplified.clear()
        if mode and self._frozen and any(p.requires_grad for p in self.backbone.parameters()):
            leaves = {module for module in self.backbone.network.modules() if not list(module.children())}
            learning = leaves.difference(self._frozen)
            self._simplified.append(self.backbone.simplified(learning))
        return self

    def trainable_state(self) -> dict[str, Tensor]:
        """Parameters and statistics of the blocks that learn; all others stay as loaded."""
        still = {id(buffer) for module in (*self._frozen, *self._resting) for buffer in module.buffers()}
        return {
            name: tensor
            for name, tensor in self.state_dict(keep_vars=True).items()
            if (tensor.requires_grad if isinstance(tensor, nn.Parameter) else id(tensor) not in still)
        }

    def has_folded_norms(self) -> bool:
        """Whether all batch norms hold mean 0 and variance 1 but a shift that is not 0.

        Their statistics were folded into the convolutions before them (networks for 8-bit arithmetic are published so).
        Normalising such a network by batch statistics would change its output.
        """
        norms = [module for module in self.backbone.modules() if isinstance(module, BatchNorm)]
        found = [(norm.running_mean, norm.running_var, norm.bias) for norm in norms]
        kept = [(m, v, bias) for m, v, bias in found if m is not None and v is not None and bias is not None]
        plain = all(mean.abs().max() < 1e-6 and (var - 1).abs().max() < 1e-3 for mean, var, _ in kept)
        return plain and any(bias.abs().max() > 0 for _, _, bias in kept)  # newly initialised norms have shift 0

    def hash(self) -> str:
        """A hash of what it computes: configuration and every weight."""
        return fingerprint(self.config, tensors_hash(self.state_dict()))


def _owner(parameter: str) -> str:
    """The name of the module that has the parameter of this name."""
    return parameter.rpartition(".")[0]


def build_encoder(params: EncoderParams, size: int, seed: int) -> Encoder:
    """The encoder of params.yaml for square images of `size` pixels: weights loaded or random, frozen, in eval mode."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {"name": params.name, "output": params.output, "node": params.node, "size": size}
    if params.levels:
        config["levels"] = params.levels
    if params.crop is not None:
        config["crop"] = params.crop
    backbone, statistics = _build(config, params.weights)
    config |= {"mean": statistics.mean, "std": statistics.std}
    return Encoder(config, backbone).eval()


def usable_batch_norm(encoder: Encoder, asked: BatchNormMode, key: str) -> BatchNormMode:
    """The mode that `encoder` can train in: `frozen`, with a log line, where its batch norms are folded.

    `key` is the parameter that says `asked`.
    """
    if asked == "frozen" or not encoder.has_folded_norms():
        return asked
    log(
        f"the batch norms of {encoder.name} hold mean 0 and variance 1: they were folded into the layers before them. "
        f"Normed by the statistics of an update it would be another network, so they stay frozen ({key})"
    )
    return "frozen"


def _build(config: Mapping[str, Any], weights: str) -> tuple[Backbone, ImageStatistics]:
    name, seen = config["name"], _pixels_seen(config)
    library = next(build for prefix, build in LIBRARIES.items() if name.startswith(prefix))
    with _images_of(name, seen):
        return library(name, weights, config["output"], config["node"], config.get("levels", ()), seen)


def _pixels_seen(config: Mapping[str, Any]) -> int:
    """Height and width of the backbone's input."""
    crop = config.get("crop")
    if crop is not None and crop > config["size"]:
        raise UserError(f"encoder.crop = {crop} is more than the images have (resize.size = {config['size']})")
    return crop or config["size"]


def _channels_last(backbone: Backbone) -> Backbone:
    """`backbone` with the weights of its convolutions in that order; those of three dimensions stay as they are."""
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return backbone


@contextmanager
def _norms_of_one_cell(backbone: Backbone, found: list[BatchNorm]) -> Iterator[None]:
    """Add to `found` the batch norms that are called meanwhile, with one image, and get one value for each channel."""

    def note(norm: BatchNorm, inputs: tuple[Any, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            found.append(norm)

    hooks = [m.register_forward_pre_hook(note) for m in backbone.modules() if isinstance(m, BatchNorm)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _images_of(name: str, size: int) -> Iterator[None]:
    """Turn the error of a network that cannot take images of this size into one line."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if lacks_memory(error):
            raise
        reason = (str(error).strip().splitlines() or ["too small"])[0]
        raise UserError(
            f"{name} cannot look at {size} x {size} pixels ({reason}); change resize.size or encoder.crop"
        ) from None
