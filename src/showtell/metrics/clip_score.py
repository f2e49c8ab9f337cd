"""CLIPScore and RefCLIPScore: similarity of image, caption and references in the embedding space of a CLIP model.

Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", section 3:
CLIP-S(c, v) = w max(cos(c, v), 0) with w = 2.5, and RefCLIP-S the harmonic mean of CLIP-S and max(max_r cos(c, r), 0).
Captions and references get the prefix "A photo depicts"; features are computed in float32. Scores depend on the model
and its weights: those of another CLIP are not comparable. The models are those of open_clip.

Shapes: v (image, channel), c (image, channel), r: for each image (reference, channel); rows of length 1, float32.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from showtell.core.errors import UserError, extra
from showtell.core.hub import asking_hub
from showtell.core.precision import device
from showtell.core.terminal import one_line
from showtell.metrics.bootstrap import Measured, mean

W = 2.5
PREFIX = "A photo depicts "
KEYS = ("clipscore", "refclipscore")
CLIP_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
QUICK_GELU = "-quickgelu"  # how the names of models end that compute with QuickGELU
INPUTS_PER_PASS = 64  # images or captions in one pass; bounds memory, does not change results


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP in float32: `name` of model and weights; `prepare` turns an image into its input, `tokenize` texts."""

    name: str
    network: Any  # with encode_image and encode_text
    prepare: Callable[[Image.Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]

    @torch.inference_mode()
    def pictures(self, images: Iterable[Image.Image]) -> np.ndarray:
        """(image, channel) of RGB pictures of any sizes."""
        return self._rows(
            self.network.encode_image(torch.stack([self.prepare(image) for image in part]).to(device()))
            for part in _batches(images)
        )

    @torch.inference_mode()
    def texts(self, captions: Iterable[str]) -> np.ndarray:
        """(caption, channel) of captions, each with the prefix; text beyond the model's context length is cut off."""
        return self._rows(
            self.network.encode_text(self.tokenize([PREFIX + text for text in part]).to(device()))
            for part in _batches(captions)
        )

    @staticmethod
    def _rows(parts: Iterable[Tensor]) -> np.ndarray:
        return np.concatenate([nn.functional.normalize(part.float(), dim=-1).cpu().numpy() for part in parts])


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, INPUTS_PER_PASS)):
        yield part


def clip_scores(v: np.ndarray, c: np.ndarray, r: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """CLIPScore and RefCLIPScore of each image; every image has at least one reference."""
    clip = W * np.maximum((v * c).sum(axis=1), 0)  # (image)
    nearest = np.array([max((references @ caption).max(), 0) for caption, references in zip(c, r, strict=True)])
    both = clip + nearest
    harmonic = np.divide(2 * clip * nearest, both, out=np.zeros_like(both), where=both > 0)
    return {"clipscore": clip, "refclipscore": harmonic}


def score_with(
    clip: Clip, images: Iterable[Image.Image], captions: Iterable[str], references: Iterable[Sequence[str]]
) -> dict[str, Measured]:
    """Both metrics of one caption for each image, as means over images. Some images are looked at at a time."""
    parts: list[dict[str, np.ndarray]] = []
    for part in _batches(zip(images, captions, references, strict=True)):
        pictures, said, texts = zip(*part, strict=True)
        ends = np.cumsum([len(own) for own in texts])
        r = np.split(clip.texts(chain.from_iterable(texts)), ends[:-1])
        parts.append(clip_scores(clip.pictures(pictures), clip.texts(said), r))
    return {key: mean(np.concatenate([part[key] for part in parts])) for key in KEYS}


def load_clip(model: str, weights: str) -> Clip:
    """open_clip's model `model`, with published weights by name, or those of a file.

    `UserError` without the package, for unknown names, and for weights that cannot be downloaded.
    """
    open_clip = check_clip(model, weights)
    is_file = weights.endswith(CLIP_SUFFIXES)
    path = weights if is_file else _downloaded(open_clip, model, weights)
    quick = not is_file and _needs_quick_gelu(open_clip, model, weights)
    try:
        network, _, prepare = open_clip.create_model_and_transforms(
            model, pretrained=path, precision="fp32", device="cpu", force_quick_gelu=quick
        )
    except Exception as error:  # damaged files and weights of other networks raise many types
        raise UserError(f"{path} does not hold the weights of {model}: {one_line(str(error), 160)}") from None
    tokenize = open_clip.get_tokenizer(model)
    return Clip(f"{model}, {Path(weights).name}", network.float().eval().to(device()), prepare, tokenize)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise UserError(f"CLIPScore needs the package open_clip_torch; {extra('clipscore')}") from None
    return open_clip


def check_clip(model: str, weights: str) -> Any:
    """The package open_clip; `UserError` without it, and where it does not know the model or its weights, or there is
    no such file. Nothing is loaded or downloaded."""
    open_clip = _open_clip()
    names = open_clip.list_models()
    if model not in names:
        raise UserError(f"{model!r} is not a model of open_clip, which has {', '.join(sorted(names)[:8])} and others")
    known, path = open_clip.list_pretrained_tags_by_model(model), Path(weights)
    if weights.endswith(CLIP_SUFFIXES):
        if not path.is_file():
            wrong = "it is a folder, not a file" if path.is_dir() else "no such file"
            raise UserError(f"CLIP weights {weights!r}: {wrong}")
    elif weights not in known:
        raise UserError(
            f"CLIP weights {weights!r}: {model} has {', '.join(known) or 'none'}; or a file "
            f"({', '.join(CLIP_SUFFIXES)})"
        )
    return open_clip


def _downloaded(open_clip: Any, model: str, weights: str) -> str:
    """The file of the published weights called `weights`, downloaded once into the Hub's cache."""
    config = open_clip.get_pretrained_cfg(model, weights)
    try:
        with asking_hub():
            return open_clip.download_pretrained(config)
    except Exception as error:  # the Hub's client raises exceptions of its own
        reason = one_line(str(error) or type(error).__name__, 100)
        quick = f"{model}{QUICK_GELU}"
        other = f", with {quick} as the model" if _needs_quick_gelu(open_clip, model, weights) else ""
        raise UserError(
            f"cannot get the weights {weights} of {model} ({reason}); bring {_where(config)} and give its path{other}"
        ) from None


def _needs_quick_gelu(open_clip: Any, model: str, weights: str) -> bool:
    """Whether published weights were trained with QuickGELU, an approximation of GELU, and `model` does not say so."""
    trained_with = open_clip.get_pretrained_cfg(model, weights).get("quick_gelu", False)
    return bool(trained_with) and not model.endswith(QUICK_GELU)


def _where(config: dict[str, Any]) -> str:
    hub = str(config.get("hf_hub") or "").strip("/")
    return f"open_clip_model.safetensors from https://huggingface.co/{hub}" if hub else str(config.get("url"))


_TIMM = re.compile(r"vit_(base|large|huge|giant|gigantic)\w*?_patch(\d+)_(?:\w*clip)")
_OPEN_CLIP = re.compile(r"ViT-([BLHgG]|bigG)\w*?-(\d+)")
_SIZES = {"base": "B", "large": "L", "huge": "H", "giant": "g", "gigantic": "bigG"}


def kinship(encoder: str, clip: str) -> str:
    """A warning where a captioner's encoder is a CLIP, too, which biases the score; else empty."""
    ours, theirs = _TIMM.search(encoder), _OPEN_CLIP.search(clip)
    if "clip" not in encoder:
        return ""
    same = ours and theirs and (_SIZES[ours[1]], ours[2]) == theirs.groups()
    how = "the same network" if same else "a CLIP too"
    return f"CLIPScore by {clip}: the captioner's encoder {encoder} is {how}, which may flatter its captions"
