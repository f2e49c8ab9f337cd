"""Memory of `features` for 500 and for 50,000 images.

    python benchmarks/features.py [--images 500 50000] [--size 32]

Peak resident size of a process that encodes an image store of noise with an untrained squeezenet1_1. Nothing is
asserted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from showtell.data.store import RowWriter
from showtell.data.transform import Transform

EXTRACT = """
import sys
from pathlib import Path
from showtell.encoders.network import EncoderParams, build_encoder
from showtell.encoders.features import extract
from showtell.data.store import RowReader
params = EncoderParams(
    name="squeezenet1_1", weights="none", output="grid", node="features.4", levels=None, crop=None, precision="fp32"
)
images = RowReader(Path("images.h5"), "images")
extract(build_encoder(params, images.shape[-1], 0), images, Path("features.h5"), "fp32")
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def make(path: Path, count: int, size: int) -> None:
    writer = RowWriter(path.with_suffix(".part"), "images", count, (3, size, size), np.uint8)
    rng = np.random.default_rng(0)
    while writer.done < count:
        rows = min(1000, count - writer.done)
        writer.append(rng.integers(0, 256, (rows, 3, size, size), np.uint8))
    attrs = {"transform": json.dumps(Transform(size, "stretch").to_dict()), "content": "noise"}
    writer.finish(path, range(count), attrs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[500, 50_000])
    parser.add_argument("--size", type=int, default=32)
    args = parser.parse_args()
    for count in args.images:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name, "images.h5"), count, args.size)
            start = time.perf_counter()
            found = subprocess.run(
                [sys.executable, "-c", EXTRACT], cwd=name, check=True, capture_output=True, text=True
            )
            megabytes = Path(name, "features.h5").stat().st_size / 1e6
            seconds = time.perf_counter() - start
        print(f"{count:,} images: peak {found.stdout.strip()} MB, {megabytes:,.0f} MB of features, {seconds:.0f} s")


if __name__ == "__main__":
    main()
