"""Captioning images in batches: read, caption, print, draw."""

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from showtell.commands.drawings import mark
from showtell.commands.inputs import Source
from showtell.core.errors import UserError
from showtell.core.files import atomic, json_line
from showtell.core.progress import log
from showtell.core.terminal import printable
from showtell.data.transform import Transform, load_image
from showtell.generation.confidence import floored

if TYPE_CHECKING:  # not imported for an exported graph: torch and matplotlib take seconds
    from showtell.generation.captioner import Caption, Captioner
    from showtell.generation.onnx_captioner import GraphCaption

LARGEST = 1024  # pixels, longer side of an image that attention is drawn on


class Asked(NamedTuple):
    """Options of the captions. `settings` of the search replace the model's own."""

    n_best: int
    min_confidence: float | None
    settings: Mapping[str, Any]


def caption_photos(
    folders: Sequence[Path], sources: Sequence[Source], asked: Asked, drawings: Sequence[Path] | None, as_json: bool,
    head: int | None = None,
) -> bool:  # fmt: skip
    """Print the captions of `sources`, draw their attention to `drawings`; returns whether all could be read.

    Several models in `folders` form an ensemble, with the settings of the first. `head`: the attention head to draw; by
    default their mean. Errors of an image, and reasons for withheld captions, go to stderr; the others are captioned.
    """
    from showtell.generation.captioner import Captioner

    captioner = Captioner.load(*folders)
    captioner.show_head(head)
    if drawings is not None and not captioner.model.decoder.attends:
        raise UserError("this model does not attend to parts of the image: there is nothing to draw (--attention)")
    captioner.check_confidence(asked.min_confidence, **asked.settings)
    tell_highest_confidence(captioner, asked.min_confidence)
    read = Pictures(sources, captioner.model.transform if drawings is not None else None)
    wanted = asked.n_best, drawings is not None, asked.min_confidence
    for captions in captioner.stream(read, *wanted, **asked.settings):
        for photo in read.up_to_a_whole_one():
            tell(photo, captions, drawings, as_json)
    for photo in read.up_to_a_whole_one():
        tell(photo, [], drawings, as_json)
    return read.whole


def tell_highest_confidence(captioner: "Captioner", least: float | None) -> None:
    """Log it where it is below `least`: then every caption is withheld, whatever the pictures are."""
    if least is None or captioner.confidence is None:
        return
    highest = captioner.confidence.good.chances[-1]  # they rise, and the function is constant beyond
    if least > highest:
        log(f"no caption of this model can have a confidence above {floored(highest):g}")


class Photo(NamedTuple):
    """An image of the command line, reduced in size for drawing; or the reason why it could not be read."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not used
    source: Source
    picture: Image.Image | None = None
    problem: str | None = None


class Pictures:
    """Iterates over the readable images, and keeps all of them until their output is printed."""

    def __init__(self, sources: Sequence[Source], draws_on: Transform | None):
        self._sources, self._draws_on = sources, draws_on
        self._waiting: deque[Photo] = deque()
        self.whole = True

    def __iter__(self) -> Iterator[Image.Image]:
        for index, source in enumerate(self._sources):
            try:
                picture = _read(source)
            except UserError as error:
                message = str(error).replace(source.name, source.shown)
                self._waiting.append(Photo(index, source, problem=message))
                self.whole = False
                continue
            small = None
            if self._draws_on is not None:
                from showtell.evaluation.attention_pictures import seen

                small = seen(picture, self._draws_on).copy()
                small.thumbnail((LARGEST, LARGEST))  # a batch of full-size photographs may not fit into memory
            self._waiting.append(Photo(index, source, small))
            yield picture

    def up_to_a_whole_one(self) -> Iterator[Photo]:
        """The waiting images, up to and including the first that could be read."""
        while self._waiting:
            photo = self._waiting.popleft()
            yield photo
            if photo.problem is None:
                return


def _read(source: Source) -> Image.Image:
    """The image; the errors of `load` name it, and those of its content are given its name here."""
    content = source.load()
    try:
        return load_image(content)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from None


def tell(
    photo: Photo, captions: "Sequence[Caption | GraphCaption]", drawings: Sequence[Path] | None, as_json: bool
) -> None:
    """Print the captions of an image, and draw it."""
    if photo.problem is not None:
        log(f"error: {photo.problem}")
    reason = captions[0].abstained if captions else None
    if reason is not None:
        log(f"{photo.source.shown}: no caption: {reason}")
    for line in lines(photo.source.shown, captions, as_json, photo.problem):
        print(line, flush=True)
    if photo.picture is not None and drawings is not None and reason is None:
        _draw(drawings[photo.index], photo.picture, captions[0])


def lines(
    name: str, captions: "Sequence[Caption | GraphCaption]", as_json: bool, problem: str | None = None
) -> Iterator[str]:
    """The output for one image: `name: caption`, with the log probability where there are several; or JSON.

    An image with a `problem`, or without a caption, appears in JSON only.
    """
    if as_json:
        entries = [_entry(caption) for caption in captions]
        more = {"captions": entries} if len(entries) > 1 else {}
        content = {"error": problem} if problem is not None else {**entries[0], **more}
        yield _json({"image": name, **content})
    elif problem is None and captions[0].abstained is None:
        many = len(captions) > 1
        shown = (f"{name}: {c.text}" + (f"  ({c.logprob:.2f})" if many else "") for c in captions)
        yield from (printable(line).replace("\n", "\\n") for line in shown)


def _entry(caption: "Caption | GraphCaption") -> dict[str, Any]:
    """One caption as a JSON object. Only the first caption has confidence and truth."""
    if caption.abstained is not None:
        return {"caption": None, "abstained": caption.abstained, "confidence": caption.confidence}
    said = {"caption": caption.text, "logprob": caption.logprob, "score": caption.score, "finished": caption.finished}
    chances = {"confidence": caption.confidence, "truth": caption.truth}
    known = len(caption.probabilities) == len(caption.words)  # graphs give the probability of the whole alone
    return {**said, **chances, "words": caption.words, "probabilities": list(caption.probabilities) if known else None}


def _json(content: Mapping[str, Any]) -> str:
    """JSON on one line; control characters, and those that the encoding lacks, are escaped."""
    text = json_line(content, getattr(sys.stdout, "encoding", None) or "utf-8")
    return text if printable(text) == text else json.dumps(content)


def _draw(path: Path, picture: Image.Image, best: "Caption | GraphCaption") -> None:
    assert best.attention is not None  # `caption_photos` refuses models without
    from showtell.evaluation.attention_pictures import draw_attention

    with atomic(path) as temporary:
        form = Image.registered_extensions()[path.suffix.lower()]
        draw_attention(picture, best).save(temporary, form, exif=mark())
