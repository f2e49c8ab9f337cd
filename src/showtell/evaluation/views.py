"""Views of sequences on disk, for code that iterates over images: items are made when they are accessed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from showtell.core.on_demand import OnDemand
from showtell.data.captions import Entry

S = TypeVar("S")
T = TypeVar("T")


class View(OnDemand[T], Generic[S, T]):
    """`make` of every item of a sequence, computed at each access."""

    def __init__(self, items: Sequence[S], make: Callable[[S], T]):
        self.items, self.make = items, make

    def __len__(self) -> int:
        return len(self.items)

    def at(self, place: int) -> T:
        return self.make(self.items[place])

    def __iter__(self) -> Iterator[T]:
        return map(self.make, self.items)  # iterates over `items`, so that a file is read sequentially


class ByImage(Mapping[Any, T]):
    """The items of a sequence by image id."""

    def __init__(self, image_ids: Sequence[Any], items: Sequence[T]):
        self.image_ids, self.items_in_order = image_ids, items
        self._place: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.image_ids)

    def __getitem__(self, image_id: Any) -> T:
        if not self._place:
            self._place = {image_id: place for place, image_id in enumerate(self.image_ids)}
        return self.items_in_order[self._place[image_id]]

    def values(self) -> Sequence[T]:  # type: ignore[override]  # in order, read sequentially
        return self.items_in_order


def references_of(entries: Sequence[Entry]) -> ByImage[list[str]]:
    """The raw references of each image, by its id."""
    return ByImage([entry["image_id"] for entry in entries], View(entries, lambda entry: entry["references"]))
