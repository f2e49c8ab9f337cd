"""`showtell score`: a COCO results file against a COCO captions file."""

import argparse
import json
from pathlib import Path

from showtell.metrics import bootstrap
from showtell.metrics.protocol import score_files
from showtell.metrics.score_table import format_scores

HELP = "score captions by the COCO protocol: BLEU-1..4, ROUGE-L, CIDEr-D, METEOR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = HELP + "."
    parser.add_argument("hypotheses", type=Path, metavar="HYPOTHESES", help="a list of {image_id, caption}")
    parser.add_argument("references", type=Path, metavar="REFERENCES", help="COCO captions: images, annotations")
    parser.add_argument("--json", action="store_true", help="print fractions as JSON instead of a table x100")
    parser.add_argument("--subset", action="store_true", help="score only the images that have a hypothesis")
    parser.add_argument("--no-meteor", action="store_true", help="leave out METEOR, which starts Java")
    parser.add_argument("--intervals", action="store_true", help="add 95%% bootstrap intervals over images")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")


def run(args: argparse.Namespace) -> int:
    scores = score_files(args.hypotheses, args.references, meteor=not args.no_meteor, subset=args.subset)
    intervals = bootstrap.intervals(scores.measured(), seed=args.seed) if args.intervals else {}
    if not args.json:
        print(format_scores(scores, intervals))
        return 0
    content: dict[str, object] = {**scores.corpus, "tokenisation": scores.tokenisation.name}
    if intervals:
        content["intervals"] = {key: list(bounds) for key, bounds in intervals.items()}
    print(json.dumps(content, indent=1))
    return 0
