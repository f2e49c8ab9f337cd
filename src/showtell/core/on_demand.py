"""Sequences whose items are computed when they are accessed, not stored."""

from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class OnDemand(Sequence[T]):
    """A sequence of the items that `at` computes; slices give lists, negative positions count from the end."""

    def at(self, place: int) -> T:
        """The item at position `place`, which is in range and not negative."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self.at(number) for number in range(*place.indices(len(self)))]
        return self.at(range(len(self))[place])
