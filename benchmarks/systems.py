"""All published systems by one protocol: runs them and writes a table of docs/systems.md.

    python benchmarks/systems.py [--only NAME ...] [--jobs 2] [--quick]
    python benchmarks/systems.py --photographs IMAGES CAPTIONS --encoder NAME WEIGHTS --trainable-from BLOCK

Each row (`systems_rows.py`) is a run of all stages in a clone of HEAD under work/systems/ (`systems_runs.py`). On
`scenes` all rows use the encoder that the stage `encoder` of this checkout has trained, so run `make repro` first. On
photographs the encoder is given by name, with a file of weights. The clones share one DVC cache: stages that rows have
in common run once, and stages of earlier runs are not repeated. If a row fails, one line says so, its log has the
details, and the other rows continue. The page is rewritten only when the folder has a result of each of its rows.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from systems_rows import ROOT, ROWS, SCENES, chosen, photographs
from systems_runs import Plan, attempt, export_encoder, git
from systems_table import PAGE, lacking, rewritten, table

from showtell.core import errors
from showtell.core.errors import UserError
from showtell.core.files import read_json, write_text
from showtell.core.progress import log


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these rows; others stay as they are")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, the processor shared among them (1)")
    parser.add_argument("--quick", action="store_true", help="tiny runs, to try the script: prints, changes no page")
    parser.add_argument("--folder", type=Path, help="of clones, logs and results (work/systems, or work/systems-quick)")
    parser.add_argument(
        "--photographs", nargs=2, type=Path, metavar=("IMAGES", "CAPTIONS"), help="not scenes but these"
    )
    parser.add_argument("--encoder", nargs=2, metavar=("NAME", "WEIGHTS"), help="of the photographs; a file of weights")
    parser.add_argument(
        "--trainable-from", metavar="BLOCK", help="of that encoder: the first block that fine-tuning moves"
    )
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: must be 1 or more")
    pictures, place = SCENES, "systems-quick" if args.quick else "systems"
    if args.photographs:
        if not args.encoder or not args.trainable_from:
            raise UserError("--photographs also takes --encoder NAME WEIGHTS and --trainable-from BLOCK")
        pictures = photographs(*args.photographs, args.encoder[0], args.trainable_from)
        place += "-photographs"
    rows = chosen(args.only, pictures)
    base = (args.folder or ROOT / "work" / place).resolve()
    encoder = str(Path(args.encoder[1]).resolve()) if args.photographs else export_encoder(base, args.quick)
    plan = Plan(base, git("-C", str(ROOT), "rev-parse", "HEAD"), args.jobs, args.quick, encoder, pictures=pictures)
    if changed := git("-C", str(ROOT), "status", "--porcelain", "--", "src", "stages", "recipes", "params.yaml"):
        log(f"these runs are of HEAD, without what is not committed: {len(changed.splitlines())} files")
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(partial(attempt, plan), rows))
    files = [base / f"{row.name}.json" for row in ROWS]
    lines = table([read_json(file) for file in files if file.exists()])
    print(lines)
    if not args.quick and any(done):
        page = PAGE.read_text(encoding="utf-8")
        if gone := lacking(page, lines, pictures.table):
            raise UserError(f"{PAGE} is not changed: {base} has no result of {'; '.join(gone)}. Run these rows as well")
        write_text(PAGE, rewritten(page, lines, pictures.table))
    return 0 if all(done) else 1


if __name__ == "__main__":
    errors.run(main)
