"""Time of the import of the package, of torchvision's networks, of `showtell --help`, and of `dvc repro` when all
stages are up to date.

    python benchmarks/startup.py [--quick] [--rounds 5] [--json]

Times are of whole processes, with the start of the interpreter, and should be below their targets. The networks of
torchvision are imported as the stages do it and by `import torchvision.models`, in turn. `dvc repro` is timed in this
repository, so it needs a finished pipeline: run `make repro` first. With --quick it is left out.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from measure import Result, alternate, arguments, report, threads, timed

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = "from showtell.encoders.torchvision_package import torchvision_models; torchvision_models()"
IMPORT = "import sys, showtell; sys.exit('importing showtell imports torch' if 'torch' in sys.modules else 0)"


def run(command: Sequence[str]) -> str:
    """The output of the command; if it fails, its last error line ends this script."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[-2:])} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return done.stdout


def time_of(command: Sequence[str], claim: str, target: float, what: str, rounds: int) -> Result:
    """The median time of `command`, after one untimed run."""
    run(command)
    times = [timed(lambda: run(command)) for _ in range(rounds)]
    detail = f"{rounds} rounds, {min(times):.3f} to {max(times):.3f} s"
    return Result(claim, median(times), target, what, threads(), detail, at_most=True, unit=" s")


def finished(dvc: Sequence[str]) -> bool:
    """Whether `dvc repro` would have nothing to do but the stage that always runs."""
    return all(why == ["always changed"] for why in json.loads(run([*dvc, "status", "--json"])).values())


def results(args: argparse.Namespace) -> Iterator[Result]:
    python = [sys.executable]
    yield time_of([*python, "-c", IMPORT], "import showtell", 0.3, "without torch", args.rounds)
    yield time_of([*python, "-m", "showtell.commands.cli", "--help"], "showtell --help", 0.5, "all of it", args.rounds)
    imported = alternate(
        lambda: run([*python, "-c", "import torchvision.models"]), lambda: run([*python, "-c", NETWORKS]), args.rounds
    )
    yield Result("import of torchvision's networks", imported.ratio, 1.5, "with torch", threads(), str(imported))
    if args.quick:
        return
    dvc = [*python, "-m", "dvc"]
    if not finished(dvc):
        sys.exit("dvc repro has something to do here, so that nothing cannot be timed; run `make repro` first")
    yield time_of([*dvc, "repro"], "dvc repro with nothing to do", 5.0, "all stages", args.rounds)


if __name__ == "__main__":
    args = arguments(__doc__).parse_args()
    report(results(args), args)
