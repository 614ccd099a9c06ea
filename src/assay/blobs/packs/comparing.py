"""Whether segments give their ids: decoded, block by block, through whatever they are differences to.

A checksum tells whether stored bytes are those that somebody wrote; only this tells whether they are what they are
called. What others wrote is believed no earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from assay.blobs.packs.index import PackIndex
from assay.errors import AssayError, NotFound, StorageError
from assay.packing.directory import Directory
from assay.packing.reading import MAX_DEPTH, Decoder, PackedSource, Shelf
from assay.packing.segments import Segment
from assay.trees import Source

AT_ONCE = 24 << 20
"""Bytes that are decoded at once to be compared: where bases are far away, many requests are under way."""


def compare(decoder: Decoder, segments: Sequence[Segment]) -> None:
    """Decode segments, and compare every block of them; memory does not grow with them.

    Args:
        decoder: gives blocks.
        segments: which; those that lie together are read together when they follow each other.

    Raises:
        IntegrityError: one does not give its id, or it or a base of it is not there (code ``segment-missing``).
        BadFormat: one is damaged in a way that shows in its form.
        StorageError: the place failed.
    """
    source = PackedSource(decoder, [(one.id, one.size) for one in segments])
    room, at = memoryview(bytearray(min(AT_ONCE, source.size))), 0
    while count := source.read_into(at, room):
        at += count


def find_wrong(shelf: Shelf, wanted: Collection[bytes]) -> list[Segment] | None:
    """Compare segments that lie in packs; None where all of them give their ids.

    Args:
        shelf: where they are found.
        wanted: their ids.

    Returns:
        Those of them and of their bases that do not give their ids by what is stored of themselves. None of them where
        it is only that one is not there.

    Raises:
        StorageError: the place failed.
    """
    places = [found for one in wanted if (found := shelf.find(one)) is not None]
    ordered = [held for held, pack in sorted(places, key=lambda one: (id(one[1]), one[0].offset))]
    decoder = Decoder(shelf)
    if len(places) == len(wanted) and _are_right(decoder, ordered):
        return None
    lowest = [_lowest(shelf, decoder, one) for one in ordered if not _are_right(decoder, [one])]
    return list({one.id: one for one in lowest if one is not None}.values())


class Judge:
    """Tells of segments of one pack whether they give their ids, through its own bases and those that the index has.

    The index is asked in this thread alone: it may be the one that this thread is changing.

    Args:
        name: of the pack.
        held: what it lists.
        index: of all packs.
        open_pack: gives a pack's bytes by its name; raises ``NotFound`` where it went.
    """

    def __init__(self, name: str, held: Directory, index: PackIndex, open_pack: Callable[[str], Source]) -> None:
        self._name, self._index, self._open = name, index, open_pack
        self._own = {segment.id: segment for segment in held.segments}

    def is_right(self, segment: Segment) -> bool:
        """Whether a segment gives its id; not where it, or a base of it, is not there.

        Raises:
            StorageError: the place failed.
        """
        try:
            chain = self._chain(segment)
        except NotFound:
            return False
        return _are_right(Decoder(_Chain(chain)), [segment])

    def _chain(self, segment: Segment) -> dict[bytes, tuple[Segment, Source]]:
        chain, base = {segment.id: (segment, self._open(self._name))}, segment.base
        while base is not None and base not in chain and len(chain) <= MAX_DEPTH:
            found = self._find(base)
            if found is None:
                break  # decoding says that it is missing
            chain[base], base = found, found[0].base
        return chain

    def _find(self, segment: bytes) -> tuple[Segment, Source] | None:
        if segment in self._own:
            return self._own[segment], self._open(self._name)
        found = self._index.segment(segment)
        return None if found is None else (found.segment, self._open(found.pack))


class _Chain:
    """A segment and its bases."""

    def __init__(self, found: Mapping[bytes, tuple[Segment, Source]]) -> None:
        self._found = found

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """One of them, and the pack that holds it."""
        return self._found.get(segment)


def _lowest(shelf: Shelf, decoder: Decoder, segment: Segment) -> Segment | None:
    """The lowest one that is wrong, of a wrong segment and its bases; None where a base is not there."""
    chain = [segment]
    while chain[-1].base is not None:
        found = shelf.find(chain[-1].base)
        if found is None or len(chain) > MAX_DEPTH:
            return None
        chain.append(found[0])
    while len(chain) > 1 and _are_right(decoder, chain[-1:]):
        chain.pop()
    return chain[-1]


def _are_right(decoder: Decoder, segments: Sequence[Segment]) -> bool:
    try:
        compare(decoder, segments)
    except StorageError:
        raise
    except AssayError:
        return False
    return True
