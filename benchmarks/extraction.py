"""Feature extraction, reading included, against the bare backbone on tensors in memory: the share of its throughput.

    python benchmarks/extraction.py [--quick] [--rounds 5] [--json]

The bare side is torchvision's backbone in its fastest form (channels_last, bf16, inference mode, the batch size that
is fastest here) on normalised pictures in memory, without storing results. Ours are the `features` stage's
work from an image store to a feature store, and `resize` and `features` after one another, from JPEGs of 640 x 480 to
a feature store. Ours must be as close to fp32 as the bare side.
"""

import argparse
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import setting
import torch
import torchvision
from measure import Result, Timing, against, arguments, device_name, report, require, seconds, threads, timed
from resize import jpeg
from torch import Tensor, nn

from showtell.core.precision import autocast
from showtell.data.datasets.picture_files import Pictures
from showtell.data.resizing import Listed, finish_split, resize_split, workers
from showtell.data.store import RowReader
from showtell.data.transform import Transform
from showtell.encoders.features import ENCODED_PER_BATCH, extract
from showtell.encoders.network import Encoder

TARGET = 0.9
PRECISION = "bf16"
CHECKED = 16  # images
SIZES = (8, 16, 32, 64, 128)  # batch sizes, of which the bare side uses the fastest


class Ours:
    """`images` JPEGs in a folder, and their stores: images.h5, features.h5."""

    def __init__(self, folder: Path, images: int, sizes: setting.Sizes, pool: Executor | None):
        self.folder, self.pool, self.transform = folder, pool, Transform(sizes.pixels, "stretch")
        (folder / "photos").mkdir()
        for number in range(images):
            (folder / f"photos/{number:06d}.jpg").write_bytes(jpeg(number, 640, 480))
        self.pictures = Pictures.of([folder / "photos"])
        files = sorted(self.pictures.files())
        self.listed = Listed(files, files, "noise")
        self.resize()

    def resize(self) -> None:
        """images.h5 from the JPEGs."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        journal = resize_split(
            "train", self.listed.files, self.pictures, self.transform, self.folder / "work", self.pool
        )
        finish_split("train", self.folder / "images.h5", self.listed, journal, self.transform, self.folder / "work")

    def extract(self, encoder: Encoder) -> None:
        """features.h5 from images.h5."""
        (self.folder / "features.h5").unlink(missing_ok=True)
        extract(encoder, RowReader(self.folder / "images.h5", "images"), self.folder / "features.h5", PRECISION)

    def both(self, encoder: Encoder) -> None:
        self.resize()
        self.extract(encoder)

    def features(self) -> Tensor:
        reader = RowReader(self.folder / "features.h5", "grid")
        return torch.from_numpy(reader.rows(range(len(reader))))  # (image, cell, channel)

    def pixels(self) -> Tensor:
        reader = RowReader(self.folder / "images.h5", "images")
        return torch.from_numpy(reader.rows(range(len(reader))))  # (image, 3, height, width)


def bare_backbone(encoder: Encoder) -> nn.Module:
    """torchvision's network up to its last map, with the encoder's weights."""
    network = torchvision.models.get_model(encoder.name, weights=None)
    network.load_state_dict(encoder.backbone.network.state_dict(), strict=False)  # all but the classifier
    backbone = nn.Sequential(*list(network.children())[:-2]).eval().requires_grad_(False)
    return backbone.to(setting.device(), memory_format=torch.channels_last)


def normalised(encoder: Encoder, pixels: Tensor) -> Tensor:
    """Pictures as inputs of the backbone."""
    ready = (pixels.to(setting.device()).float() - encoder.mean) / encoder.std
    return ready.contiguous(memory_format=torch.channels_last)


def best_batches(backbone: nn.Module, ready: Tensor) -> list[Tensor]:
    """`ready` in batches of the size that is fastest for the bare side."""
    times = {}
    for size in (size for size in SIZES if size <= len(ready)):
        batches = list(ready.split(size))
        forward(backbone, batches)
        times[size] = timed(partial(forward, backbone, batches))
    return list(ready.split(min(times, key=times.__getitem__, default=len(ready))))


@torch.inference_mode()
def forward(backbone: nn.Module, batches: list[Tensor]) -> list[Tensor]:
    with autocast(PRECISION):
        return [backbone(batch) for batch in batches]


def checked(encoder: Encoder, maps: list[Tensor], features: Tensor, pixels: Tensor) -> str:
    """Relative distance of bare and ours from fp32, by norms; an error if ours is further."""
    with torch.inference_mode():
        exact = encoder(pixels[:CHECKED].to(setting.device())).cpu()
    bare = torch.cat([one.flatten(2).transpose(1, 2).float().cpu() for one in maps])[:CHECKED]
    theirs, ours = (float((x - exact).norm() / exact.norm()) for x in (bare, features[:CHECKED].float()))
    require(ours < 1.2 * theirs + 2**-11, f"ours is {ours:.1e} from fp32, bare {theirs:.1e}")
    return f"from fp32 bare is {theirs:.0e} off, ours {ours:.0e}"


def results(args: argparse.Namespace) -> Iterator[Result]:
    sizes, images = (setting.QUICK, 6) if args.quick else (setting.FULL, 2 * ENCODED_PER_BATCH)
    with TemporaryDirectory() as name, workers(0 if args.quick else images) as pool:  # forked before threads start
        ours = Ours(Path(name), images, sizes, pool)
        encoder = setting.encoder_of(sizes)
        backbone = bare_backbone(encoder)
        batches = best_batches(backbone, normalised(encoder, ours.pixels()))
        known = encoder.hash()
        encoder.hash = lambda: known  # computed once per split: negligible for a dataset, a few percent here
        ours.extract(encoder)
        off = checked(encoder, forward(backbone, batches), ours.features(), ours.pixels())
        forms = {"HDF5": partial(ours.extract, encoder), "JPEG": partial(ours.both, encoder)}
        timings = against(partial(forward, backbone, batches), forms, args.rounds)
    for source, timing in timings.items():
        yield result(source, timing, images, sizes, f"in batches of {len(batches[0])}; {off}")


def result(source: str, timing: Timing, images: int, sizes: setting.Sizes, how: str) -> Result:
    detail = (
        f"an image {seconds(timing.plain / images)} bare, {seconds(timing.ours / images)} from {source}; bare {how}"
    )
    claim = f"feature extraction from {source}, share of the bare backbone's throughput"
    what = f"{sizes.images}, {images} images" + (" of 640 x 480" if source == "JPEG" else "")
    return Result(claim, timing.ratio, TARGET, what, threads(), detail, device=device_name())


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    report(results(args), args)
