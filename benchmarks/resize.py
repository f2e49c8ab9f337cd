"""Memory of `resize` for 500 and for 50,000 images, and its time against decoding alone.

    python benchmarks/resize.py [--images 500 50000] [--side 64] [--photos FOLDER]

Memory: peak resident size of the stage's process and of its largest worker, on archives of small JPEGs with five
captions each. Time: the whole stage on a few hundred photograph-sized JPEGs (or those in FOLDER), against
only decoding the same files on the same number of processes. Nothing is asserted.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures
from showtell.data.resizing import resize_split, workers
from showtell.data.transform import Transform, open_image

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train",) * 8 + ("val", "test")
STAGES = """
import importlib.util, resource, sys
for name in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location(name, f"{sys.argv[1]}/stages/{name}.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    stage.main() if __name__ == "__main__" else None
# ru_maxrss of this process would count what its parent held when it started it.
own = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"PEAK {own:.0f} {worker:.0f}")
"""


def jpeg(number: int, width: int, height: int) -> bytes:
    rng = np.random.default_rng(number)
    soft = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((width, height))
    noise = rng.normal(0, 8, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(soft) + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make(folder: Path, count: int, side: int) -> None:
    """A custom dataset of `count` images: photos.zip and captions.json."""
    pictures = [jpeg(number, side, side * 3 // 4) for number in range(50)]
    words = [f"word{number}" for number in range(2000)]
    rng = np.random.default_rng(0)
    records = []
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for number in range(count):
            file = f"photos/picture_{number:012d}.jpg"
            archive.writestr(file, pictures[number % len(pictures)])
            said = [[words[w] for w in rng.integers(0, 2000, 11)] for _ in range(5)]
            records.append(Record(number, file, SPLITS[number % 10], [" ".join(s) for s in said], said))
    karpathy.write(folder / "captions.json", "custom", records)


def peak(count: int, side: int) -> tuple[int, int]:
    """Peak resident MB of `resize`'s process and of its largest worker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count, side)
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        from showtell.core.yaml_files import set_values

        values = {"dataset": "custom", "custom.images": str(folder / "photos.zip"), "resize.size": side}
        values["reinforce.truth"] = 0.0  # objects in the pictures are unknown
        set_values(folder / "params.yaml", {**values, "custom.captions": str(folder / "captions.json")})
        (folder / "run.py").write_text(STAGES)
        for stages in (["source", "download", "vocab"], ["resize"]):
            command = [sys.executable, folder / "run.py", ROOT, *stages]
            out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        own, worker = out.split("PEAK ")[1].split()
        return int(own), int(worker)


def decode(content: list[bytes]) -> None:
    for one in content:
        open_image(one).convert("RGB")


def times(photos: Path | None) -> tuple[int, float, float]:
    """Images; seconds to decode them; seconds to resize them; the same number of processes, already started."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if photos is None:
            for number in range(400):
                (folder / f"{number}.jpg").write_bytes(jpeg(number, 640, 480))
        pictures = Pictures.of([photos or folder])
        files = pictures.files()
        content = [pictures.read(file) for file in files]
        processes = len(os.sched_getaffinity(0))
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            chunks = [content[start : start + 16] for start in range(0, len(content), 16)]
            list(pool.map(decode, [c[:1] for c in chunks]))
            start = time.perf_counter()
            list(pool.map(decode, chunks))
            decoding = time.perf_counter() - start
        transform = Transform(256, "stretch")
        with workers(1_000_000) as pool:
            resize_split("warm", files[:64], pictures, transform, folder / "warm", pool)
            start = time.perf_counter()
            resize_split("train", files, pictures, transform, folder / "place", pool)
            return len(files), decoding, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="*", default=[500, 50_000])
    parser.add_argument("--side", type=int, default=64, help="pixels of the small images")
    parser.add_argument("--photos", type=Path, help="folder of real photographs for the times")
    args = parser.parse_args()
    count, decoding, resizing = times(args.photos)
    print(f"{count} photographs: decoding {decoding:.2f} s, resize {resizing:.2f} s, ratio {resizing / decoding:.2f}")
    for count in args.images:
        own, worker = peak(count, args.side)
        print(f"{count:>6} images: stage {own} MB, largest worker {worker} MB")


if __name__ == "__main__":
    main()
