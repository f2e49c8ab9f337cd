"""Sequences that hold no items: each is made when it is asked for."""

from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class OnDemand(Sequence[T]):
    """What `at` makes, place by place; slices are lists, and negative places count from the end, as in a list."""

    def at(self, place: int) -> T:
        """The item at `place`, 0 or more, which there is."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self.at(number) for number in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])
