"""Finding segments for readers, and bases for writers: the index and the packs behind it, wherever these lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.lookups import Found, Tensor
from assay.errors import NotFound
from assay.packing.codec import Words
from assay.packing.directory import Hint
from assay.packing.segments import Segment
from assay.spec.digest import Digest
from assay.trees import Source

T = TypeVar("T")

REMEMBERED = 8192
"""Segments whose place is remembered, at most; then they are looked up anew."""
_SAME_NAME = 16
_ANY_NAME = 32
_TRIES = 5
_AHEAD = 1024


class Ask(Protocol):
    """Runs a question to the index, perhaps twice (``folder.PackFolder.read``)."""

    def __call__(self, question: Callable[[PackIndex], T], /) -> T:
        """The answer."""
        ...


class Stockroom:
    """Segments by id or reference (``assay.packing.writing.Stock``); safe for several threads.

    Args:
        ask: runs a question to the index.
        open_pack: a pack's bytes by its name; raises ``NotFound`` when it was compacted away meanwhile.
        again: brings the index in step with the packs: it may be in memory, where nobody else changes it.
    """

    def __init__(
        self, ask: Ask, open_pack: Callable[[str], Source], again: Callable[[], object] = lambda: None
    ) -> None:
        self._ask, self._open, self._again = ask, open_pack, again
        self._order, self._places, self._ahead = list[bytes](), dict[bytes, int](), 1
        self._known: dict[bytes, Found] = {}  # by the names of packs: how many are open is for the folder to say
        self._near: dict[Digest, list[Tensor]] = {}

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """A segment, and the pack that holds it; None when none does.

        Raises:
            StorageError: the place failed.
        """
        for _ in range(_TRIES):
            found = self._known.get(segment) or self._look_up(segment).get(segment)
            if found is None:
                return None
            try:
                return found.segment, self._open(found.pack)
            except NotFound:
                self._known = {}  # compacted since it was looked up: it and others lie elsewhere now
                self._again()
        return None

    def expect(self, parts: Sequence[tuple[bytes, int]]) -> None:
        """These are likely asked for, in this order: the more of them are, the more are looked up at once."""
        self._order = [reference for reference, _ in parts]
        self._places = {reference: place for place, reference in enumerate(self._order)}

    def _look_up(self, segment: bytes) -> dict[bytes, Found]:
        place = self._places.get(segment)
        if place is None:
            one = self._ask(lambda index: index.segment(segment))
            found = {} if one is None else {segment: one}
        else:
            several = self._order[place : place + self._ahead]
            self._ahead = min(2 * self._ahead, _AHEAD)
            found = self._ask(lambda index: index.segments(several))
        if len(self._known) + len(found) > REMEMBERED:
            self._known = {}
        self._known.update(found)
        return found

    def _tensors(self, digest: Digest) -> list[Tensor]:
        return self._ask(lambda index: index.tensors(digest))

    def alike(self, size: int, words: Words, hint: Hint, near: Sequence[Digest]) -> Sequence[tuple[bytes, Hint, int]]:
        """Tensors of the same length and words: of near blobs, then of the same name, then any; without repeats."""
        found: dict[bytes, Tensor] = {}
        for digest in near:
            if digest not in self._near:
                self._near[digest] = self._tensors(digest)
            same = [one for one in self._near[digest] if one.size == size and one.words == words]
            for tensor in sorted(same, key=lambda one: one.hint.name != hint.name):
                found.setdefault(tensor.id, tensor)
        for tensor in self._ask(
            lambda index: index.kin(size, words, hint.name, _SAME_NAME) + index.strangers(size, words, _ANY_NAME)
        ):
            found.setdefault(tensor.id, tensor)
        return [(tensor.id, tensor.hint, tensor.depth) for tensor in found.values()]
