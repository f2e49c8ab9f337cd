"""`showtell export`: writes a model as graphs that run without PyTorch, or without this package."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from showtell.commands.caption_images import add_search_arguments, search_settings
from showtell.core.errors import UserError
from showtell.core.files import check_new

GRAPH_FORMATS = ("onnx", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a model as one ONNX graph from pixels to its caption, the search inside; or (--parts, --format torch) "
        "its encoder and the step of its decoder, for a search of your own. In float32. What is written says what the "
        "model says, or it is not written."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder of a model, such as data/model")
    parser.add_argument("out", type=Path, metavar="OUT", help="OUT.onnx; with --parts or --format torch a folder")
    parser.add_argument("--parts", action="store_true", help="encoder.onnx and step.onnx in the folder OUT")
    parser.add_argument(
        "--format", choices=GRAPH_FORMATS, default="onnx", help="torch: encoder.pt2 and step.pt2, for torch.export.load"
    )
    add_search_arguments(parser)


def run(args: argparse.Namespace) -> int:
    folder = args.parts or args.format == "torch"
    if not folder and args.out.suffix != ".onnx":
        raise UserError(f"{args.out}: the name of an ONNX file must end in .onnx (with --parts it is a folder)")
    if folder and args.out.suffix in (".onnx", ".pt2"):
        raise UserError(f"{args.out}: encoder and step are two files; name a folder for them")
    if folder:
        check_new(args.out)
    elif args.out.is_dir():
        raise UserError(f"{args.out} is a folder; name a file that does not exist")
    with _processor():
        return _export(args, folder)


@contextmanager
def _processor() -> Iterator[None]:
    """Graphs are traced on the processor; they run on any device."""
    before = os.environ.get("SHOWTELL_DEVICE")
    os.environ["SHOWTELL_DEVICE"] = "cpu"
    try:
        yield
    finally:
        del os.environ["SHOWTELL_DEVICE"]
        if before is not None:
            os.environ["SHOWTELL_DEVICE"] = before


def _export(args: argparse.Namespace, folder: bool) -> int:
    from showtell.generation.bundle import load_bundle  # imports torch
    from showtell.generation.graphs.graph_writer import export_parts, export_torch, export_whole, exportable

    bundle = load_bundle(args.model)
    search = exportable(bundle, **search_settings(args))
    write = export_torch if args.format == "torch" else export_parts if args.parts else export_whole
    size = write(bundle.model, search, args.out)
    print(f"{args.out}: {size / 1e6:.1f} MB, {len(bundle.model.vocabulary):,} words, {search.described()}")
    if not folder:
        print(f"next: showtell caption PHOTO.jpg --model {args.out}")
    return 0
