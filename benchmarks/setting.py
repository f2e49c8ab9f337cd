"""Inputs of the decoder's benchmarks: sizes, networks with random weights, pictures, captions, updates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from plain import PlainDecoder, train_step
from torch import Tensor, nn
from torch.nn import functional

from showtell.commands.recipe import merged, overlaid
from showtell.core.params import validate
from showtell.core.precision import device
from showtell.core.yaml_files import read_sections
from showtell.data.batches import Batch, pad
from showtell.data.vocabulary import END, PAD, SPECIALS, START, UNK
from showtell.decoders import Decoder, build_decoder
from showtell.decoders.attention import AttentionDecoder
from showtell.encoders.network import Encoder, build_encoder
from showtell.learning.caption_task import CaptionParams, CaptionTask
from showtell.learning.optimisation import LoopParams, build_optimizer

ROOT = Path(__file__).resolve().parents[1]

torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 on both sides


@dataclass(frozen=True)
class Sizes:
    """Sizes of a benchmark: by default those of the published system on COCO."""

    network: str = "resnet101"
    pixels: int = 256
    cells: int = 64
    channels: int = 2048
    words: int = 9490
    width: int = 512  # of embedding, attention and hidden state
    shortest: int = 9  # words of a caption
    longest: int = 16

    @property
    def images(self) -> str:
        return f"{self.network} at {self.pixels} px"

    @property
    def captions(self) -> str:
        return f"vocabulary {self.words:,}, captions of {self.shortest} to {self.longest} words"


FULL = Sizes()
QUICK = Sizes(network="resnet18", pixels=64, cells=4, channels=512, words=60, width=16)
CAPTIONS = 5  # of an image

# How many of 30,000 captions of COCO have each number of words (PTB tokens without punctuation), from 7 words on; the
# last entry is of 30 and more.
COCO_WORDS = (
    249, 4926, 6648, 6420, 4563, 2984, 1720, 969, 568, 324, 206, 133, 75, 57, 40, 29, 25, 17, 14, 8, 5, 3, 2, 15,
)  # fmt: skip


def published(section: str, **changes: Any) -> Any:
    """A section of params.yaml by the recipe show-attend-tell, with `changes`."""
    params = overlaid(read_sections(ROOT / "params.yaml"), merged([str(ROOT / "recipes" / "show-attend-tell.yaml")]))
    if changes:
        params[section] |= changes
    return validate(section, params, ROOT / "params.yaml")


def encoder_of(sizes: Sizes) -> Encoder:
    """The recipe's encoder with random weights and moderate activations, like a trained one.

    Its batch norms have statistics of pictures, and residual branches are scaled down.
    """
    encoder = build_encoder(published("encoder", name=sizes.network, weights="none"), sizes.pixels, seed=1)
    for name, weight in encoder.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(weight, 0.2)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        encoder(pictures(sizes, 8, seed=99).cpu())
    for norm in norms:
        norm.momentum = 0.1
    return encoder.eval().to(device())


def without_kinks(network: nn.Module) -> nn.Module:
    """A smooth function in place of each ReLU, whose gradient is ambiguous within rounding of zero."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.SiLU())
    return network


def decoder_of(sizes: Sizes) -> AttentionDecoder:
    """The recipe's decoder without dropout, which would differ between the sides."""
    torch.manual_seed(1)
    widths = dict.fromkeys(("embedding", "attention", "hidden"), sizes.width)
    return build_decoder(published("decoder", dropout=0.0, **widths), sizes.channels, sizes.words).to(device())


def speaks(decoder: AttentionDecoder, sizes: Sizes) -> AttentionDecoder:
    """Random weights that behave like trained ones: peaked distributions, and captions that end.

    The vocabulary layer is scaled up, and one unit of the state counts words: its forget and input gates are open and
    its candidate is small and constant. The logit of the end token rises with it.
    """
    hidden = sizes.width
    clock = torch.arange(4, device=device()) * hidden  # unit 0 in the input, forget, candidate and output gates
    with torch.no_grad():
        decoder.output.weight.mul_(10)
        decoder.output.bias[[PAD, START, UNK]] = -1e4  # as rare as after training
        for weight in (decoder.cell.weight_ih, decoder.cell.weight_hh):
            weight[clock] = 0
        decoder.cell.bias_ih[clock] = torch.tensor([20.0, 20.0, 0.04, 20.0], device=device())
        decoder.cell.bias_hh[clock] = 0
        decoder.initial[1].weight[0], decoder.initial[1].bias[0] = 0, 0
        decoder.output.weight[:, 0] = 0
        decoder.output.weight[END, 0] = 20
        decoder.output.bias[END] = -20 * np.tanh(0.04 * 0.4 * sizes.longest)
    return decoder.eval()


def pictures(sizes: Sizes, images: int, seed: int = 1) -> Tensor:
    """uint8 (image, 3, pixels, pixels): smooth colours, all different."""
    generator = torch.Generator().manual_seed(seed)
    soft = torch.randint(0, 256, (images, 3, 6, 6), generator=generator).float()
    return functional.interpolate(soft, sizes.pixels, mode="bilinear").to(torch.uint8).to(device())


def grids(sizes: Sizes, images: int) -> Tensor:
    """float16 (image, cell, channel), as a feature store gives them: half of them zero, as after a ReLU."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, sizes.cells, sizes.channels, generator=generator).relu().half().to(device())


def pooled(grid: Tensor, rows: int) -> Tensor:
    """The encoder's grid (image, cell, channel) in the plain side's form: float32, rows x rows cells."""
    side = round(grid.shape[1] ** 0.5)
    as_map = grid.float().transpose(1, 2).unflatten(2, (side, side))
    return functional.adaptive_avg_pool2d(as_map, rows).flatten(2).transpose(1, 2).contiguous()


def coco_lengths(captions: int) -> np.ndarray:
    """Words (caption) of that many captions: quantiles of COCO's at equal distances, shuffled.

    Drawn at random, the longest of a batch, to which the plain side pads, would depend on luck.
    """
    below = np.cumsum(COCO_WORDS) / sum(COCO_WORDS)
    quantiles = 7 + np.searchsorted(below, (np.arange(captions) + 0.5) / captions)
    return np.random.default_rng(1).permutation(quantiles)


def captioned(sizes: Sizes, features: Tensor, lengths: Sequence[int] | np.ndarray | None = None) -> Batch:
    """`features` of images, each with five captions, in the order of a training batch.

    `lengths`: words of each caption; without it they are drawn, uniformly from `sizes.shortest` to `sizes.longest`.
    """
    rng, given = np.random.default_rng(1), iter(() if lengths is None else lengths)

    def words() -> np.ndarray:
        count = next(given, None)
        count = rng.integers(sizes.shortest, sizes.longest + 1) if count is None else count
        return rng.integers(len(SPECIALS), sizes.words, count)

    captions = [[[START, *words(), END] for _ in range(CAPTIONS)] for _ in features]
    captions = sorted((sorted(of_image, key=len, reverse=True) for of_image in captions), key=lambda c: -len(c[0]))
    return Batch(features, *pad(captions)).to(device())


def one_by_one(batch: Batch) -> tuple[Tensor, Tensor]:
    """The captions of a batch in the plain side's form: (caption, token) and lengths, with start and end."""
    tokens = torch.cat([batch.inputs[..., :1], batch.targets], dim=2).flatten(0, 1)
    return tokens, batch.mask.flatten(0, 1).sum(1) + 1


def plain_update(sizes: Sizes, batch: Batch, grid: Tensor) -> tuple[PlainDecoder, Callable[[], float]]:
    """The plain decoder, and one update of it on the captions of `batch`; `grid` (image, pooled cell, channel)."""
    decoder = PlainDecoder(decoder_of(sizes)).to(device())
    optimizer = torch.optim.Adam(decoder.parameters(), lr=published("train").learning_rate)
    grid, captions = grid.repeat_interleave(CAPTIONS, dim=0), one_by_one(batch)
    return decoder, lambda: train_step(decoder, [optimizer], grid, *captions)


class TaskUpdates:
    """Our side: updates of a task as in the training loop, gradients clipped."""

    def __init__(self, task: CaptionTask, params: LoopParams):
        self.network, self.optimizer = task.train(), build_optimizer(task, params)
        self.clip = {"value": nn.utils.clip_grad_value_, "norm": nn.utils.clip_grad_norm_}[params.clip]
        self.clip_at = params.clip_at
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest"]
        self.learning = [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradients(self, batch: Batch) -> Tensor:
        """Compute them; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.network.loss(batch)
        loss.backward()
        return loss.detach()

    def __call__(self, batch: Batch) -> Tensor:
        loss = self.gradients(batch)
        self.clip(self.learning, self.clip_at)
        self.optimizer.step()
        return loss


class Updates(TaskUpdates):
    """Updates of a caption network."""

    def __init__(self, decoder: Decoder, params: CaptionParams, encoder: Encoder | None = None):
        super().__init__(CaptionTask(decoder, params, encoder), params)


def gradients(*modules: nn.Module) -> dict[str, Tensor]:
    """Gradients of all parameters by our names; zeros where there is none."""
    parameters = [pair for module in modules for pair in module.named_parameters()]
    found = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in parameters}
    return {name.replace("backbone.network.", "backbone."): gradient for name, gradient in found.items()}


class Gap(NamedTuple):
    """Relative distance of two gradients by norms: of all together, and of the worst tensor."""

    whole: float
    worst: float

    def __str__(self) -> str:
        return f"{self.whole:.0e} (worst tensor {self.worst:.0e})"


def difference(plain: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Gap:
    """Between gradients by name. The worst tensor is relative to its own norm, or to a thousandth of the whole's.

    The lower bound is for gradients that are only rounding: the energy's bias has none, since it does not change the
    softmax.
    """
    size = torch.stack([tensor.norm() for tensor in plain.values()]).norm()
    apart = {name: (plain[name] - ours[name]).norm() for name in plain.keys() | ours.keys()}
    worst = max(float(gap / torch.maximum(plain[name].norm(), 1e-3 * size)) for name, gap in apart.items())
    return Gap(float(torch.stack(list(apart.values())).norm() / size), worst)
