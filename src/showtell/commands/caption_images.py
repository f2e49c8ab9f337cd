"""`showtell caption`: captions images with a model's folder.

Code that needs the networks is in `caption_output`, imported after all arguments have been checked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.commands.drawings import DRAWN, drawn_by
from showtell.commands.inputs import Source, picture_sources
from showtell.core.errors import UserError
from showtell.core.paths import MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that affect the captions and the output."""
    parser.description = "Describe photographs: one line for each, `name: caption`."
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a 'glob*', a URL or - (stdin)")
    parser.add_argument(
        "--model", type=Path, action="append", metavar="DIR",
        help=f"default {MODEL}; several with one vocabulary form an ensemble, with the first one's settings",
    )  # fmt: skip
    parser.add_argument(
        "--runtime", choices=("torch", "onnx"),
        help="onnx: --model is a file of `showtell export`, run without PyTorch (default: what the model is)",
    )  # fmt: skip
    parser.add_argument("--n-best", type=int, default=1, metavar="N", help="captions, or samples, for each image (1)")
    parser.add_argument(
        "--attention", type=Path, metavar="OUT.png",
        help="draw where the model looked for each word; of several images OUT-NAME.png, in a folder NAME.png",
    )  # fmt: skip
    parser.add_argument("--head", type=int, metavar="N", help="draw one attention head, from 0, not the mean of all")
    parser.add_argument("--json", action="store_true", help="one JSON object for each image, one a line")
    add_min_confidence(parser)
    parser.add_argument("--allow-urls", action="store_true", help="fetch images named by http(s) URLs")
    add_search_arguments(parser)


def add_min_confidence(parser: argparse.ArgumentParser) -> None:
    """Add `--min-confidence`, for every command that captions images."""
    parser.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="withhold a caption when the probability that it is as good as the model's usual one (median on val) is "
        "below P, 0 to 1",
    )  # fmt: skip


# Settings of the search by their names in params.yaml: type, metavar, and help.
SETTINGS: dict[str, tuple[type, str, str]] = {
    "method": (str, "M", "the search: greedy, beam, diverse_beam or sample"),
    "beam": (int, "N", "beams kept; 1 is greedy"),
    "min_length": (int, "N", "tokens at least, the end counted"),
    "max_length": (int, "N", "tokens at most, the end counted"),
    "length_penalty": (float, "P", "rank by logprob / length^P; 0: by logprob"),
    "block_ngrams": (int, "N", "no n-gram of this size twice, and no word directly after itself; 0: off"),
    "block_around": (str, "WORD", "not the same one or two words before and after this one; '': off"),
    "allow_unknown": (bool, "", "whether captions may hold <unk>"),
    "detection_weight": (float, "W", "weight of words that are found in the image; 0: none"),
    "consensus": (float, "W", "weight of similar training images' captions; 0: none"),
    "neighbour_ngrams": (float, "S", "share of similar training images' n-grams in each word; 0: none"),
    "neighbour_bonus": (float, "W", "nats a word gets for its agreement with similar images' captions; 0: none"),
    "patience": (float, "P", "beam: ends when P times its width have finished; 0: no beam is replaced"),
    "groups": (int, "N", "diverse_beam: groups that the beam is cut into (as many as beams)"),
    "diversity": (float, "D", "diverse_beam: nats that a word of an earlier group costs (0.5)"),
    "temperature": (float, "T", "sample: log probabilities are divided by it (1)"),
    "top_k": (int, "N", "sample: only the N likeliest words"),
    "top_p": (float, "P", "sample: only the likeliest words that make this share of probability"),
    "seed": (int, "N", "sample: another seed, other captions (0)"),
    "precision": (str, "A", "arithmetic of the decoder: auto, fp32, bf16 or fp16"),
}


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the search; by default the model's own."""
    told = "What is not given is as it was when the model was scored; in brackets: what a new --method begins with."
    group = parser.add_argument_group("search", told)
    for name, (kind, value, text) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(flag, type=kind, metavar=value, help=text)


def search_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; Captioner checks their range and whether they fit the model's own."""
    return {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}


def run(args: argparse.Namespace) -> int:
    """Print the captions; 1 if an image could not be read (its error is on stderr, the others are captioned)."""
    settings = search_settings(args)
    sources = list(picture_sources(args.images, args.allow_urls))
    drawings = _drawings(args.attention, sources) if args.attention else None
    if args.head is not None and drawings is None:
        raise UserError(f"--head {args.head}: it says what --attention draws, and needs that")
    models = args.model or [MODEL]
    if _is_graph(args, models):
        from showtell.commands.caption_onnx import caption_by_graph

        return 0 if caption_by_graph(models[0], sources, settings, args.json) else 1
    from showtell.commands.caption_output import Asked, caption_photos  # imports torch

    asked = Asked(args.n_best, args.min_confidence, settings)
    return 0 if caption_photos(models, sources, asked, drawings, args.json, args.head) else 1


def _is_graph(args: argparse.Namespace, models: Sequence[Path]) -> bool:
    """Whether the model is an exported graph; `UserError` for options that a graph does not support."""
    graphs = [model for model in models if model.suffix == ".onnx"]
    if args.runtime == "onnx" and len(graphs) < len(models):
        folder = next(model for model in models if model.suffix != ".onnx")
        raise UserError(f"--runtime onnx takes --model MODEL.onnx; write it with `showtell export {folder} MODEL.onnx`")
    if graphs and args.runtime == "torch":
        raise UserError(f"--runtime torch takes the folder of a model, and {graphs[0]} is a graph for onnxruntime")
    if not graphs:
        return False
    if len(models) > 1:
        raise UserError(f"several --model: an ensemble takes the models' folders, and {graphs[0]} is an exported graph")
    beyond = {
        "--n-best": args.n_best != 1,
        "--attention": args.attention is not None,
    }
    for flag, given in beyond.items():
        if given:
            raise UserError(f"{flag}: an exported graph gives the one best caption alone; use the model's folder")
    if args.min_confidence is not None:
        raise UserError("--min-confidence: an exported graph has no calibration of confidence; use the model's folder")
    return True


def _drawings(out: Path, sources: Sequence[Source]) -> list[Path]:
    """Where each image's attention is drawn: OUT.png, or with several images OUT-<name of the image>.png.

    In a folder <name of the image>.png. Images of the same name get numbers.
    """
    folder = out.is_dir() or out.suffix == ""
    if not folder and out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--attention {out}: the picture's name must end in .png, .jpg or .webp")
    if len(sources) == 1 and not folder:
        return [_may_be_drawn(out)]
    place, suffix = (out, ".png") if folder else (out.parent, out.suffix)
    paths: dict[Path, None] = {}
    last = dict.fromkeys((source.stem for source in sources), 1)  # number of the last image of this name
    for source in sources:
        name = source.stem if folder else f"{out.stem}-{source.stem}"
        path = place / f"{name}{suffix}"
        while path in paths:
            last[source.stem] += 1
            path = place / f"{name}-{last[source.stem]}{suffix}"
        paths[_may_be_drawn(path)] = None
    return list(paths)


def _may_be_drawn(path: Path) -> Path:
    """`path`; `UserError` if a file is there that this command has not drawn: it may be the user's photograph."""
    if path.exists() and drawn_by(path) != DRAWN:
        raise UserError(
            f"--attention {path} is there already, and is no drawing of showtell's; move it away, or name another place"
        )
    return path
