"""Writing the report: one file with all content or, for many images, a page and part files beside it.

The page contains the data of the list of images (captions and scores). Images, attention, beams and references are in
parts that are loaded when they become visible: from the page where they are small, else from `parts/*.js`, because a
page opened from disk may load scripts and no other files.
"""

import base64
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import yaml
from PIL import Image

from showtell.core.files import atomic_folder
from showtell.core.texts import Texts
from showtell.evaluation.attention_pictures import PEAK
from showtell.evaluation.report import html_confidence, html_slices, html_tables
from showtell.evaluation.report.content import ReportData, ReportImage

PER_PART = 16  # images per part; images with neighbouring scores share a part, so that the first screen loads two
ALL_IN_ONE = 8_000_000  # total size of the parts, in characters, up to which they are embedded: a thousand small images
PICTURE = 192  # pixels, greatest length of the longer side
QUALITY = 82  # JPEG quality


def write_report(folder: Path, data: ReportData) -> None:
    """Write `folder/index.html` (and `folder/parts/` for many images); equal data gives equal bytes.

    The folder is replaced atomically.
    """
    ciders = np.fromiter((image.cider for image in data.images), np.float64, len(data.images))
    order = np.argsort(-ciders, kind="stable")  # best first
    with atomic_folder(folder) as unfinished:
        (unfinished / "parts").mkdir()
        size = sum(_write_part(unfinished / "parts" / f"{name}.json", content) for name, content in _parts(data, order))
        parts = sorted((unfinished / "parts").iterdir())
        inside = _embedded(parts) if size <= ALL_IN_ONE else _beside(parts)
        with open(unfinished / "index.html", "wb") as page:
            for piece in _page(data, ciders, order, inside):
                page.write(piece.encode("utf-8", "replace"))  # unpaired surrogates of captions cannot be encoded


def _parts(data: ReportData, order: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Names and contents of the parts."""
    yield "references", (list(image.references) for image in data.images)
    for number, start in enumerate(range(0, len(order), PER_PART)):
        images = order[start : start + PER_PART].tolist()
        yield str(number), {image: _details(data.images[image], data.pixels(image)) for image in images}


def _details(image: ReportImage, pixels: np.ndarray) -> dict[str, Any]:
    best = image.captions[0]
    return {
        "words": best.words,
        "logprob": round(best.logprob, 4),
        "finished": best.finished,
        "probabilities": [round(probability, 3) for probability in best.probabilities],
        "chances": [None if chance is None else round(chance, 3) for chance in (best.confidence, best.truth)],
        "attention": heat_bytes(best.attention) if best.attention is not None and best.words else None,
        "shift": best.shift,
        "beams": [[beam.text, round(beam.logprob, 4)] for beam in image.captions[1:]],
        "nearest": [image.nearest.caption, round(image.nearest.similarity, 4)] if image.nearest else None,
        "picture": jpeg(pixels),
    }


def heat_bytes(attention: np.ndarray) -> str:
    """Attention (word, cell) as base64, a byte per cell: 255 is the best cell, or `PEAK` times the uniform
    attention."""
    greatest = np.maximum(attention.max(axis=1), PEAK * attention.mean(axis=1)).clip(1e-9)  # (word,)
    heat = np.rint(255 * attention / greatest[:, None]).clip(0, 255).astype(np.uint8)
    return base64.b64encode(heat.tobytes()).decode("ascii")


def jpeg(pixels: np.ndarray) -> str:
    """uint8 (3, height, width) as base64 of a JPEG file."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")


def dumped(content: Any) -> str:
    """JSON for a script element: `<` is escaped, so that no caption can end the element."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _write_part(path: Path, content: Any) -> int:
    """The number of characters written; an iterator is written as a list, item by item."""
    pieces = _listed(content) if isinstance(content, Iterator) else iter([dumped(content)])
    size = 0
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece.encode("utf-8", "replace"))
            size += len(piece)
    return size


def _listed(items: Iterator[Any]) -> Iterator[str]:
    separator = "["
    for item in items:
        yield separator + dumped(item)
        separator = ","
    yield "[]" if separator == "[" else "]"


def _embedded(parts: list[Path]) -> str:
    """The parts as elements of the page; their files are removed."""
    elements = []
    for path in parts:
        text = path.read_text(encoding="utf-8")
        elements.append(f'<script type="application/json" id="part-{path.stem}">{text}</script>')
        path.unlink()
    parts[0].parent.rmdir()
    return "\n".join(elements)


def _beside(parts: list[Path]) -> str:
    """Turn each part into a script that passes its content to the page."""
    for path in parts:
        with open(path, "rb") as part, open(path.with_suffix(".js"), "wb") as script:
            script.write(f'showtell.part("{path.stem}",'.encode())
            shutil.copyfileobj(part, script)
            script.write(b");\n")
        path.unlink()
    return ""


def _page(data: ReportData, ciders: np.ndarray, order: np.ndarray, parts: str) -> Iterator[str]:
    """The page in pieces, since the list of images, `$index`, grows with them."""
    asset = files("showtell.evaluation.report").joinpath
    sections = {
        "behaviour": html_tables.behaviour(data),
        "confidence": html_confidence.confidence(data),
        "slices": html_slices.slices(data),
        "curves": html_tables.curves(data),
        "sweep": html_tables.sweep(data),
    }
    params = yaml.safe_dump(dict(data.params), sort_keys=False, allow_unicode=True)
    content = {
        "title": escape(data.title),
        "facts": escape(" · ".join([data.title, *data.facts])),
        "links": html_tables.links(sections),
        "tiles": html_tables.tiles(data),
        "scores": html_tables.scores(data),
        **sections,
        "params": escape(params),
        "parts": parts,
        "style": asset("style.css").read_text(encoding="utf-8"),
        "script": asset("browse.js").read_text(encoding="utf-8"),
    }
    before, _, after = asset("page.html").read_text(encoding="utf-8").partition("$index")
    yield Template(before).substitute(content)
    yield from _index(data, ciders, order)
    yield Template(after).substitute(content)


def _index(data: ReportData, ciders: np.ndarray, order: np.ndarray) -> Iterator[str]:
    """JSON of the list of images."""
    marks: list[Sequence[str]] = []

    def texts() -> Iterator[str]:
        for image in data.images:
            marks.append(image.marks or ())
            yield from (image.image_id, image.captions[0].text)

    both = Texts.of(texts())  # read once: each image is stored on disk
    columns: dict[str, Iterator[Any]] = {
        "ids": (both[place] for place in range(0, len(both), 2)),
        "captions": (both[place] for place in range(1, len(both), 2)),
        "cider": (round(float(cider), 4) for cider in ciders),
        "marks": iter(marks),
        "order": map(int, order),
    }
    for number, (name, items) in enumerate(columns.items()):
        yield f"{',' if number else '{'}{dumped(name)}:"
        yield from _listed(items)
    yield f',"chunk":{PER_PART}}}'
