"""The known objects in a dataset's images, as `data/raw/objects.json` has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from showtell.metrics.objects import Names
from showtell.metrics.statements import Statement, statements


@dataclass(frozen=True)
class Annotations:
    """The objects in images, and the words for them; false where a dataset has none."""

    names: Names = field(default_factory=lambda: Names({}))  # from {kind: [phrases]}
    colours: Mapping[str, Sequence[str]] = field(default_factory=dict)  # {colour: [words for it]}
    # {image id: `size` (width, height), `objects` and, where known, `setting` and `unseen`}. Each object has `kind`,
    # `colour` (or null) and `box` [left, top, right, bottom] in pixels.
    images: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references_tell: bool = False  # CHAIR counts objects that an image's references name as present, as for COCO

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Annotations":
        """From the content of `objects.json`; `UserError` for names with an empty phrase, or one of two meanings."""
        known = {key: content[key] for key in ("colours", "images", "references_tell") if content.get(key)}
        return cls(Names(content.get("names", {})), **known)

    def __bool__(self) -> bool:
        return bool(self.images)

    def objects(self, image_id: Any) -> Sequence[Mapping[str, Any]]:
        """The objects in an image."""
        return self.images[str(image_id)]["objects"]

    def unseen(self, image_id: Any) -> bool:
        """Whether an image is marked as having an object in a colour or setting that no training image has."""
        return bool(self.images.get(str(image_id), {}).get("unseen", False))

    def statements(self, words: Sequence[str]) -> list[Statement]:
        """The objects that a caption mentions, with the colours and numbers that it states."""
        return statements(words, self.names.mentions(words), self.colours)
