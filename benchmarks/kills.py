"""A download, `stages/resize.py` and `stages/features.py`, killed at ten random moments each, end with the bytes of
an undisturbed run.

    python benchmarks/kills.py [--kills 10] [--images 3000] [--learn EPOCHS] [--seed 0]

SIGKILL to the whole process group after a random time, then the same command again; after the last kill one complete
run. The download is from a slow server on loopback. Prints the progress of each killed run, and the result.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from resize import make

from showtell.core.yaml_files import set_values

ROOT = Path(__file__).resolve().parents[1]
BODY = random.Random(0).randbytes(12_000_000)
FETCH = """
import sys
from pathlib import Path
from showtell.data.datasets.fetch import fetch
from showtell.data.datasets.transfer import RemoteFile
fetch(RemoteFile("file.zip", (sys.argv[1],), int(sys.argv[2]), sys.argv[3]), Path("."))
"""


class Slow(BaseHTTPRequestHandler):
    """Ranges of BODY at about 5 MB a second."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        span = self.headers.get("Range", "bytes=0-")
        start = int(span.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        try:
            for at in range(start, len(BODY), 50_000):
                self.wfile.write(BODY[at : at + 50_000])
                time.sleep(0.01)
        except OSError:
            self.close_connection = True


def disturbed(command: list, folder: Path, kills: int, longest: float, rng: random.Random, state) -> int:
    """Kill `command` so many times, then let it end; returns the number of runs that were killed."""
    killed = 0
    for _ in range(kills):
        with subprocess.Popen(command, cwd=folder, start_new_session=True, stderr=subprocess.DEVNULL) as child:
            time.sleep(rng.uniform(0, longest))
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                killed += 1
        print(f"  {state()}")
    subprocess.run(command, cwd=folder, check=True)
    return killed


def downloads(kills: int, rng: random.Random) -> None:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        url = f"http://127.0.0.1:{httpd.server_port}/file.zip"
        command = [sys.executable, "-c", FETCH, url, str(len(BODY)), hashlib.sha256(BODY).hexdigest()]
        part = Path(name) / "file.zip.part"
        state = partial(lambda path: f"{path.stat().st_size if path.exists() else 0:,} of {len(BODY):,} bytes", part)
        killed = disturbed(command, Path(name), kills, 1.0, rng, state)
        same = (Path(name) / "file.zip").read_bytes() == BODY
    httpd.shutdown()
    print(f"download: {killed} kills, the same bytes: {same}")


def fingerprints(folder: Path, *places: str) -> dict[str, str]:
    """SHA-256 of every file in these folders."""
    files = [path for place in places for path in sorted(folder.glob(place)) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(folder: Path, stage: str) -> float:
    """Seconds of the undisturbed stage."""
    start = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "stages" / f"{stage}.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def killed_stage(stage: str, folder: Path, outs: tuple[str, ...], kills: int, rng: random.Random, state) -> None:
    """Run the stage undisturbed, then again with kills; whether the outputs are the same."""
    seconds = run(folder, stage)
    whole = fingerprints(folder, *outs)
    for name in whole:
        (folder / name).unlink()
    command = [sys.executable, ROOT / "stages" / f"{stage}.py"]
    killed = disturbed(command, folder, kills, seconds, rng, partial(state, folder))
    same, left = fingerprints(folder, *outs) == whole, [path.name for path in (folder / "work").glob("*/")]
    print(f"{stage}: {killed} kills, {len(whole)} files, the same bytes: {same}, left over in work/: {left}")


def resized(folder: Path) -> str:
    lines = sum(path.read_bytes().count(b"\n") for path in folder.glob("work/resize-*/*.facts"))
    return f"{lines} images resized"


def encoded(folder: Path) -> str:
    """Rows of unfinished and the splits of finished features."""
    counts = {path.name[:-14]: path.read_text() for path in folder.glob("work/features-*/*.h5.part.count")}
    done = [path.stem for path in folder.glob("work/features-*/*.h5")]
    return f"rows {counts}, finished {done}"


def learnt(folder: Path) -> str:
    return "an epoch or more" if list(folder.glob("work/encoder-*/latest.pt")) else "nothing yet"


def stages(kills: int, images: int, epochs: int, rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, images, 320)
        shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
        set_values(
            folder / "params.yaml",
            {
                "dataset": "custom",
                "reinforce.truth": 0.0,  # objects in the pictures are unknown
                "custom.images": str(folder / "photos.zip"),
                "custom.captions": str(folder / "captions.json"),
                "resize.size": 128,
                "encoder.weights": "none",
                "pretrain.enabled": epochs > 0,
                "pretrain.epochs": epochs,
                "detection.min_images": 1,
            },
        )
        for stage in ("source", "download", "vocab"):
            run(folder, stage)
        killed_stage("resize", folder, ("data/images/*", "data/skipped.json", "metrics/data.json"), kills, rng, resized)
        outs = ("data/models/encoder/*", "metrics/encoder.*")
        killed_stage("encoder", folder, outs, kills if epochs else 0, rng, learnt)
        killed_stage("features", folder, ("data/features/*",), kills, rng, encoded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--learn", type=int, default=0, help="epochs in which the encoder first learns words")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    downloads(args.kills, rng)
    stages(args.kills, args.images, args.learn, rng)


if __name__ == "__main__":
    main()
