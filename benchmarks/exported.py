"""An exported model against its bundle: size, captions, and the time from start to caption on one core.

    unzip -q data/raw/images/scenes.zip -d scenes
    python benchmarks/exported.py data/model scenes/scene-007[4-8]*.jpg      # the 500 test pictures

PyTorch computes in fp32 here, as graphs do. Start to caption is a whole process, with the start of the interpreter.
Processor time does not depend on other processes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from measure import device_name, timed

from showtell.generation.bundle import load_bundle
from showtell.generation.captioner import Captioner
from showtell.generation.graphs.graph_writer import export_whole, exportable
from showtell.generation.onnx_captioner import OnnxCaptioner


def processor_time(command: Sequence[str]) -> float:
    """User and system time of a process, seconds."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run(command, check=True, capture_output=True)
    return used() - before


def on_one_core(command: Sequence[str], rounds: int) -> str:
    """The median times of a process, after one untimed run."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    computed: list[float] = []
    elapsed = [timed(lambda: computed.append(processor_time(command))) for _ in range(rounds + 1)]
    return f"{median(elapsed[1:]):.2f} s, of processor time {median(computed[1:]):.2f} s"


def main(model: Path, pictures: Sequence[str], rounds: int) -> None:
    bundle = load_bundle(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        size = export_whole(bundle.model, exportable(bundle), path)
        print(f"{size / 1e6:.1f} MB; {device_name()}", flush=True)
        graph = OnnxCaptioner(path)
        captioner = Captioner(replace(bundle.model, precision="fp32"), exportable(bundle))
        found = captioner.stream(pictures, attention=False)
        same = sum(ours.text == graph.caption(name).text for name, (ours, *_) in zip(pictures, found, strict=True))
        print(f"{same} of {len(pictures)} captions are the same", flush=True)
        command = [sys.executable, "-m", "showtell.commands.cli", "caption", pictures[0], "--model", str(path)]
        print(f"start to caption on one core: {on_one_core(command, rounds)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.model, given.pictures, given.rounds)
