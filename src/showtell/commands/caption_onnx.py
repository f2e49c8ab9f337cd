"""Captioning images with an exported graph, one at a time: read, caption, print."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from showtell.commands.caption_output import Pictures, tell
from showtell.commands.inputs import Source
from showtell.generation.onnx_captioner import OnnxCaptioner


def caption_by_graph(path: Path, sources: Sequence[Source], settings: Mapping[str, Any], as_json: bool) -> bool:
    """Print the captions of `sources`; returns whether all of them could be read."""
    captioner = OnnxCaptioner(path)
    captioner.check(**settings)
    read = Pictures(sources, None)
    for picture in read:
        caption = captioner.caption(picture, **settings)
        for photo in read.up_to_a_whole_one():
            tell(photo, [caption], None, as_json)
    for photo in read.up_to_a_whole_one():
        tell(photo, [], None, as_json)
    return read.whole
