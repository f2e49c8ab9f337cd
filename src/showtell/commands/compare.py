"""`showtell compare`: compares two sets of captions, from files or git revisions, by paired bootstrap."""

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from showtell.commands.bootstrap_seed import add_seed
from showtell.commands.refused_files import HYPOTHESES, REFERENCES, check_caption_file
from showtell.commands.score_table import format_differences
from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.core.terminal import printable
from showtell.metrics import bootstrap
from showtell.metrics.protocol import Protocol, Scores, parse_hypotheses, read_references

HELP = "compare two sets of captions by paired bootstrap: two hypotheses files or two git revisions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = HELP + "."
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="a COCO results file, or a revision of this repository")
    parser.add_argument("--references", type=Path, default=paths.split_json("test"), metavar="FILE",
                        help="COCO captions or a caption file of the pipeline (default %(default)s)")  # fmt: skip
    parser.add_argument("--images", type=int, default=5, metavar="N", help="how many images to show (default 5)")
    parser.add_argument("--replicates", type=int, default=bootstrap.REPLICATES, metavar="N", help="default %(default)s")
    add_seed(parser)
    parser.add_argument("--json", action="store_true", help="print fractions as JSON instead of a table x100")


def run(args: argparse.Namespace) -> int:
    if args.replicates < 1 or args.images < 0:
        raise UserError("--replicates must be 1 or more, and --images 0 or more")
    check_caption_file(args.references, REFERENCES)
    captions = [captions_of(name) for name in (args.a, args.b)]
    protocol = Protocol(read_references(args.references))
    a, b = (_scored(protocol, name, said) for name, said in zip((args.a, args.b), captions, strict=True))
    differences = bootstrap.compare(a.measured(), b.measured(), args.replicates, args.seed)
    gained, lost = bootstrap.extremes(a.image_ids, a.images["cider"], b.images["cider"], args.images)
    if args.json:
        content = {
            "metrics": {key: d._asdict() for key, d in differences.items()},
            "gained": gained,
            "lost": lost,
            "tokenisation": protocol.tokenisation.name,
        }
        print(json.dumps(content, indent=1))
        return 0
    print(f"scored on {protocol.tokenisation.text}")
    print(format_differences(differences))
    if captions[0] == captions[1]:
        print("\nthe captions are the same")
    for title, rows in (("gained", gained), ("lost", lost)):
        if not rows:
            continue
        print(f"\nImages that {title} most (CIDEr-D x100)")
        for image_id, before, after in rows:
            print(f"{printable(str(image_id))}  {100 * before:.1f} -> {100 * after:.1f}")
            for label, hypotheses in zip("AB", captions, strict=True):
                print(f"  {label}: {printable(hypotheses[str(image_id)])}")
    return 0


def _scored(protocol: Protocol, name: str, captions: Mapping[str, str]) -> Scores:
    """Scores of `captions`; `UserError` with their `name` when they are not of the references' images."""
    try:
        return protocol.score(captions, meteor=False)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def captions_of(name: str) -> dict[str, str]:
    """{image id: caption} of a results file or, where there is no such file, the test captions of a git revision."""
    path = Path(name)
    if path.is_file():  # a folder may be called like a revision
        check_caption_file(path, HYPOTHESES)
        return parse_hypotheses(name, read_json(path))
    return parse_hypotheses(f"{paths.HYPOTHESES} of {name}", _at_revision(name))


def _at_revision(revision: str) -> object:
    import dvc.api  # imported late: slow, and needed only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return json.loads(dvc.api.read(str(paths.HYPOTHESES), repo=".", rev=revision, encoding="utf-8"))
    except (DvcException, SCMError, OSError, ValueError) as error:
        if _is_locked(revision):
            raise UserError(
                f"{revision} has {paths.HYPOTHESES}, but its content is not in this cache: `dvc fetch --all-commits` "
                "gets it from a remote"
            ) from None
        reason = " ".join(str(error).split())
        raise UserError(f"{revision} is neither a file nor a revision with {paths.HYPOTHESES}: {reason}") from None


def _is_locked(revision: str) -> bool:
    """Whether dvc.lock of a git revision lists the test captions."""
    shown = subprocess.run(["git", "show", f"{revision}:dvc.lock"], capture_output=True, text=True)
    return str(paths.HYPOTHESES) in shown.stdout
