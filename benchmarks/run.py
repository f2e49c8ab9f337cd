"""`make bench`: measures every claim of docs/performance.md, script by script, and rewrites its table.

    python benchmarks/run.py [--only NAME ...] [--rounds N]     # the claims; on a GPU they get a table of their own
    python benchmarks/run.py --growth                           # memory and time by size of dataset, and COCO: long
    python benchmarks/run.py --quick                            # tiny sizes, to try the scripts: rewrites nothing

If a script fails, one line says so, the others run, and the exit status is 1. --only keeps the lines of the
other scripts, unless they were measured on another machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch  # noqa: F401  (its import shows whether there is a GPU)
from measure import Result, device_name
from page import PAGE, Row, claims, machine, part, rewritten

from showtell.core import errors
from showtell.core.files import write_text

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    "decoder_epoch", "decoder_step", "finetune_epoch", "beam_search", "decoding", "transformer", "extraction",
    "storage", "metrics", "rewards", "startup",
)  # fmt: skip
FIELDS = Result.__dataclass_fields__


def measured(script: str, options: Sequence[str]) -> tuple[list[Row], str | None]:
    """Results of a script, printed at once, and its last line if it failed."""
    rows: list[Row] = []
    command = [sys.executable, str(HERE / f"{script}.py"), "--json", *options]
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as child:
            for line in child.stdout or ():
                rows.append({**json.loads(line), "script": script})
                print(Result(**{key: rows[-1][key] for key in FIELDS}), flush=True)
        complaints.seek(0)
        said = complaints.read().strip().splitlines() or [f"it ended with status {child.returncode}"]
    return rows, said[-1] if child.returncode else None


def run_claims(scripts: Sequence[str], options: Sequence[str], keep: bool) -> int:
    """Measure, and write each script's claims to the page at once if `keep`; returns the exit status."""
    failed = False
    for script in scripts:
        rows, complaint = measured(script, options)
        if complaint is not None:
            failed = True
            print(f"{script}.py failed: {complaint}", file=sys.stderr, flush=True)
        if rows and keep:
            record(rows, [script] if complaint is None else [])
    return int(failed)


def record(rows: Sequence[Row], whole: Sequence[str]) -> None:
    """Put `rows` on the page: a machine with a GPU has a table of its own."""
    device, page = device_name(), PAGE.read_text(encoding="utf-8")
    name = "cpu" if device == "cpu" else "gpu"
    write_text(PAGE, rewritten(page, name, claims(part(page, name), rows, whole, SCRIPTS, machine(device))))


def run_growth(quick: bool) -> int:
    """Run growth.py and coco.py, which print their parts of the page."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"growth": ["--images", "500", "1000", "--out", folder], "coco": ["--quick"]}
        for script, tiny in options.items():
            command = [sys.executable, str(HERE / f"{script}.py"), *(tiny if quick else ())]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                return done.returncode
            print(done.stdout)
            if not quick:
                said = f"Measured on {machine()}.\n\n{done.stdout}"
                write_text(PAGE, rewritten(PAGE.read_text(encoding="utf-8"), script, said))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="NAME", help=", ".join(SCRIPTS))
    parser.add_argument("--rounds", type=int, help="times each side is timed; else as each script has it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to try the scripts, not to measure")
    parser.add_argument("--growth", action="store_true", help="memory and time by size of dataset, and what COCO takes")
    args = parser.parse_args()
    if args.growth:
        return run_growth(args.quick)
    options = ["--quick"] * args.quick + (["--rounds", str(args.rounds)] if args.rounds else [])
    return run_claims(args.only, options, keep=not args.quick)


if __name__ == "__main__":
    errors.run(main)
