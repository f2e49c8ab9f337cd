"""`showtell score`: scores a COCO results file against a COCO captions file."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from showtell.commands.bootstrap_seed import add_seed
from showtell.commands.refused_files import HYPOTHESES, REFERENCES, check_caption_file
from showtell.commands.score_table import format_scores
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.metrics import bootstrap
from showtell.metrics.bootstrap import mean
from showtell.metrics.protocol import Protocol, Scores, id_text, read_hypotheses, read_references, score_files
from showtell.metrics.spice import spice

CLIP_MODEL, CLIP_WEIGHTS = "ViT-B-32", "openai"
HELP = "score captions by the COCO protocol: BLEU-1..4, ROUGE-L, CIDEr-D, METEOR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = HELP + "."
    parser.add_argument("hypotheses", type=Path, metavar="HYPOTHESES", help="a list of {image_id, caption}")
    told = "COCO captions, or a caption file of the pipeline"
    parser.add_argument("references", type=Path, metavar="REFERENCES", help=told)
    parser.add_argument("--json", action="store_true", help="print fractions as JSON instead of a table x100")
    parser.add_argument("--subset", action="store_true", help="score only the images that have a hypothesis")
    parser.add_argument("--no-meteor", action="store_true", help="leave out METEOR, which starts Java")
    parser.add_argument("--intervals", action="store_true", help="add 95%% bootstrap intervals over images")
    parser.add_argument("--spice", action="store_true", help="add SPICE, which needs Java and Stanford CoreNLP's jars")
    clip = parser.add_argument_group("CLIPScore", "with the extra `clipscore`; it compares captions with pictures")
    clip.add_argument("--pictures", type=Path, metavar="PATH", help="folder or archive of the pictures: adds CLIPScore")
    clip.add_argument("--clip-model", metavar="NAME", help=f"of open_clip ({CLIP_MODEL})")
    clip.add_argument("--clip-weights", metavar="NAME", help=f"published ones, or a file ({CLIP_WEIGHTS})")
    add_seed(parser)


def run(args: argparse.Namespace) -> int:
    for flag, given in (("--clip-model", args.clip_model), ("--clip-weights", args.clip_weights)):
        if given is not None and args.pictures is None:
            raise UserError(f"{flag} {given}: it says how --pictures are scored, and needs them")
    if args.pictures is not None and not args.pictures.exists():
        raise UserError(f"--pictures {args.pictures} does not exist")
    check_caption_file(args.hypotheses, HYPOTHESES)
    check_caption_file(args.references, f"{REFERENCES} (--pictures is for pictures)")
    scores = _scores(args)
    if args.spice:
        scores = _with_spice(scores, args)
    problem = None
    if args.pictures is not None:
        try:
            scores = _with_clipscore(scores, args)
        except UserError as error:  # told after the other scores, which may have taken minutes
            problem = error
    intervals = bootstrap.intervals(scores.measured(), seed=args.seed) if args.intervals else {}
    if not args.json:
        print(format_scores(scores, intervals), flush=True)
        return _ended(problem)
    content: dict[str, object] = {**scores.corpus, "tokenisation": scores.tokenisation.name}
    if args.pictures is not None:
        content["clip"] = scores.notes.get("clipscore")
    if intervals:
        content["intervals"] = {key: list(bounds) for key, bounds in intervals.items()}
    print(json.dumps(content, indent=1), flush=True)
    return _ended(problem)


def _ended(problem: UserError | None) -> int:
    if problem is not None:
        raise problem
    return 0


def _scores(args: argparse.Namespace) -> Scores:
    try:
        return score_files(args.hypotheses, args.references, meteor=not args.no_meteor, subset=args.subset)
    except UserError:
        if not read_hypotheses(args.hypotheses):
            raise UserError(f"{args.hypotheses} holds no captions") from None
        if not args.subset:
            _suggest_subset(args.hypotheses, args.references)
        raise


def _suggest_subset(hypotheses: Path, references: Path) -> None:
    """`UserError` when the hypotheses are of some of the images alone: an oversight, or what --subset is for."""
    found, wanted = read_hypotheses(hypotheses), read_references(references)
    missing = [image_id for image_id in wanted if image_id not in found]
    if missing and len(found) > 1 and found.keys() < wanted.keys():
        raise UserError(
            f"{hypotheses} has no hypothesis for {len(missing)} of the {len(wanted)} images of {references}, the first "
            f"is {missing[0]}; --subset scores the other {len(found)} alone"
        )


def _with_spice(scores: Scores, args: argparse.Namespace) -> Scores:
    """The scores with SPICE of the same images, or the reason why it was not computed."""
    captions, references = read_hypotheses(args.hypotheses), read_references(args.references)
    ids = [str(image_id) for image_id in scores.image_ids]
    protocol = Protocol({image_id: references[image_id] for image_id in ids})
    tokens = protocol.tokenisation.tokenised(captions[image_id] for image_id in ids)
    found = spice(protocol.tokens, dict(zip(ids, tokens, strict=True)))
    if isinstance(found, str):
        corpus: dict[str, float | None] = {**scores.corpus, "spice": None}
        return replace(scores, corpus=corpus, notes={**scores.notes, "spice": found})
    return scores.with_more({"spice": mean(found)})


def _with_clipscore(scores: Scores, args: argparse.Namespace) -> Scores:
    """The scores with CLIPScore and RefCLIPScore of the same images."""
    from showtell.metrics.clip_score import load_clip, score_with  # imported late: torch takes seconds

    captions, references = read_hypotheses(args.hypotheses), read_references(args.references)
    ids = [str(image_id) for image_id in scores.image_ids]
    images = _pictures(args.pictures, args.references, ids)
    clip = load_clip(args.clip_model or CLIP_MODEL, args.clip_weights or CLIP_WEIGHTS)
    more = score_with(clip, images, [captions[i] for i in ids], [references[i] for i in ids])
    return scores.with_more(more, f"by {clip.name}")


def _pictures(where: Path, references: Path, image_ids: Sequence[str]) -> Iterator[Image.Image]:
    """The pictures of these images, upright in RGB; `UserError` before any is read when one is missing."""
    from showtell.data.datasets.picture_files import Pictures
    from showtell.data.transform import load_image

    files = _files(references)
    unnamed = [image_id for image_id in image_ids if image_id not in files]
    if unnamed:
        raise UserError(f"{references} names no picture file of image {unnamed[0]} (`file_name`, or `file`)")
    pictures = Pictures.open(where)
    missing = pictures.missing([files[image_id] for image_id in image_ids], str(references))
    if missing:
        raise UserError(f"{where} lacks {len(missing)} of the pictures, the first is {missing[0]}")
    return (load_image(pictures.read(files[image_id])) for image_id in image_ids)


def _files(references: Path) -> dict[str, str]:
    """{image id as text: file name} from a COCO captions file or one of the pipeline's, as far as it has names."""
    content = read_json(references)
    entries = content.get("images", []) if isinstance(content, dict) else content
    named = ((entry.get("id", entry.get("image_id")), entry.get("file_name", entry.get("file"))) for entry in entries)
    return {id_text(image_id): file for image_id, file in named if isinstance(file, str)}
