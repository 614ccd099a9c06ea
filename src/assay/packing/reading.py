"""Reading packed bytes: any range of a blob, decoding the blocks that it touches and no others.

Every block is compared with its digest, so that what is read is what was packed. A large range is decoded by several
threads straight into the caller's memory, from runs of neighbouring blocks that are fetched with one read each; what
is fetched lies in buffers that threads keep, so that memory does not grow with what is read.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay.errors import BadFormat, IntegrityError
from assay.packing import codec
from assay.packing.codec import BLOCK
from assay.packing.segments import Block, Segment, check_block, read_table, table_size
from assay.packing.sharing import MOST_THREADS, PROCESSORS, THREADS, Job, share
from assay.trees import Source
from assay.trees.window import FileSource

Bytes = NDArray[np.uint8]
MAX_DEPTH = 8
"""Bases of bases that a reader follows; writers stay below (``kin.MAX_DEPTH``)."""

_NEAR_RUN, _FAR_RUN = 1 << 20, 6 << 20
"""Stored bytes that are fetched at once, bases included: from a file here, which is soon asked; from anywhere else."""
_MANY = 16
"""Blocks that are decoded at once, however little is stored of them: other threads want some, too."""
_GAP = 64 << 10
"""Bytes between two blocks that are rather read than skipped: block tables, mostly."""
_KEPT_ROWS = 1 << 16
"""Rows of block tables that a decoder keeps: of 64 GiB, in about 15 MB."""
_KEPT_BLOCKS = 4
"""Decoded blocks that are kept of those that were not wanted whole: the rest is often wanted next."""
_ALONE = 2 * BLOCK
"""Bytes that are not worth waking other threads for."""

_decoding = threading.BoundedSemaphore(max(THREADS, PROCESSORS))


def _begin_anew() -> None:
    """What threads of the parent held when it forked nobody gives back in the child."""
    global _decoding  # noqa: PLW0603 - the one place where it changes
    _decoding = threading.BoundedSemaphore(max(THREADS, PROCESSORS))


os.register_at_fork(after_in_child=_begin_anew)


class Shelf(Protocol):
    """Where segments are found, whatever pack they lie in."""

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """A segment by its id, and the pack that holds it; None when none does.

        Raises:
            StorageError: the place failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Bytes [start, stop) of a segment, and where they go."""

    segment: bytes
    start: int
    stop: int
    at: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Blocks of a segment that lie one after the other in its pack: numbers [first, last), bytes [begin, end) of it."""

    wanted: _Wanted
    segment: Segment
    pack: Source
    blocks: Sequence[Block]
    first: int
    last: int
    begin: int
    end: int


_Link = tuple[Segment, memoryview]
"""What is stored of a block, and whose it is; a list of them leads from a block to the last of its bases."""


class _Fetched(threading.local):
    """What each thread fetches into: a buffer per base of a base."""

    def __init__(self) -> None:
        self._rooms: list[Bytes] = [np.empty(0, np.uint8)] * (MAX_DEPTH + 1)

    def read(self, pack: Source, offset: int, length: int, depth: int = 0) -> memoryview:
        """Bytes of a pack; good until the next ones of this depth are read in this thread."""
        fill = getattr(pack, "read_into", None)  # asking whether it is ``Filling`` takes a tenth of a millisecond
        if fill is None:
            data = memoryview(pack.read(offset, length))
        else:
            if len(self._rooms[depth]) < length:
                self._rooms[depth] = np.empty(max(length, _NEAR_RUN + BLOCK // 4), np.uint8)
            room = self._rooms[depth][:length].data
            data = room[: fill(offset, room)]
        if len(data) != length:
            raise IntegrityError(f"{_name(pack)} ends after {offset + len(data)} bytes, expected {offset + length}")
        return data


_fetched = _Fetched()


class Decoder:
    """Gives blocks back; safe for several threads.

    Args:
        shelf: where segments are found.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._tables: OrderedDict[tuple[bytes, bytes], list[Block]] = OrderedDict()
        self._rows = 0
        self._recent: OrderedDict[tuple[bytes, int], Bytes] = OrderedDict()

    def block(self, segment: bytes, number: int, into: Bytes) -> None:
        """Decode block *number* of a segment into *into*, which has exactly its length.

        Raises:
            IntegrityError: it is damaged, or it or a base of it is not here (code ``segment-missing``).
            BadFormat: it is damaged in a way that shows in its form.
        """
        self.fill([_Wanted(segment, number * BLOCK, number * BLOCK + len(into), 0)], into)

    def fill(self, wanted: Sequence[_Wanted], into: Bytes) -> None:
        """Decode parts of segments to where they go in *into*.

        Raises:
            IntegrityError: something is damaged, or it or a base of it is not here (code ``segment-missing``).
            BadFormat: something is damaged in a way that shows in its form.
        """
        found = [(one, *self._find(one.segment)) for one in wanted if not self._from_recent(one, into)]
        if len(into) <= _ALONE:
            share(self._jobs(found, into), threads=1)
            return
        far = any(not isinstance(pack, FileSource) for *_, pack in found)
        if far:  # each block table is a journey: all of them at once
            tables = {held.id: (held, pack) for _, held, pack in found if held.blocks > 1}
            share((partial(self._fetch_table, *one) for one in tables.values()), threads=MOST_THREADS)
        share(self._jobs(found, into), threads=MOST_THREADS if far else THREADS)

    def _find(self, segment: bytes) -> tuple[Segment, Source]:
        found = self._shelf.find(segment)
        if found is None:
            raise _missing(segment)
        return found

    def _jobs(self, found: Sequence[tuple[_Wanted, Segment, Source]], into: Bytes) -> Iterator[Job]:
        """What is to be done: a job fetches one stretch of a pack and decodes what lies there."""
        together: list[_Run] = []
        for one in found:
            for run in self._runs(*one):
                if together and not _follows(run, together):
                    yield partial(self._decode, together, into)
                    together = []
                together.append(run)
        if together:
            yield partial(self._decode, together, into)

    def _runs(self, wanted: _Wanted, held: Segment, pack: Source) -> Iterator[_Run]:
        """The blocks that are wanted of a segment, as many together as are fetched at once."""
        if not 0 <= wanted.start < wanted.stop <= held.size:
            raise BadFormat(
                f"segment {held.id.hex()[:12]} of {_name(pack)} has {held.size} bytes, expected {wanted.stop}"
            )
        blocks = self._table(held, pack)
        first, end = wanted.start // BLOCK, -(-wanted.stop // BLOCK)
        room, most = _room(pack), _most(held, pack)
        while first < end:
            last = first + 1
            while (
                last < min(end, first + most)
                and blocks[last].offset + blocks[last].length - blocks[first].offset <= room
            ):
                last += 1
            begin, stop = blocks[first].offset, blocks[last - 1].offset + blocks[last - 1].length
            yield _Run(wanted, held, pack, blocks, first, last, held.offset + begin, held.offset + stop)
            first = last

    def _decode(self, runs: Sequence[_Run], into: Bytes) -> None:
        """Fetch runs that lie together, and their bases, and decode them."""
        begin = runs[0].begin
        stored = _fetched.read(runs[0].pack, begin, runs[-1].end - begin)
        for run in runs:
            links = self._links(run, stored[run.begin - begin : run.end - begin], 0)
            with _decoding:
                for number in range(run.first, run.last):
                    self._place(run, number, links[number], into)

    def _links(self, run: _Run, stored: memoryview, depth: int) -> dict[int, list[_Link]]:
        """For each block of a run what is stored of it, of its base, of that one's base …; bases are fetched here."""
        held, origin = run.segment, run.blocks[run.first].offset
        links: dict[int, list[_Link]] = {}
        for number, block in enumerate(run.blocks[run.first : run.last], run.first):
            links[number] = [(held, stored[block.offset - origin : block.offset - origin + block.length])]
        leaning = [number for number, ((_, data),) in links.items() if codec.needs_base(data)]
        if not leaning:
            return links
        if held.base is None or depth == MAX_DEPTH:
            raise IntegrityError(f"segment {held.id.hex()[:12]} of {_name(run.pack)} has no base, or too many")
        base, pack = self._find(held.base)
        if base.size != held.size:
            raise IntegrityError(f"segment {held.id.hex()[:12]} of {_name(run.pack)} has a base of another size")
        blocks, first, last = self._table(base, pack), leaning[0], leaning[-1] + 1
        begin, end = blocks[first].offset, blocks[last - 1].offset + blocks[last - 1].length
        below = _Run(run.wanted, base, pack, blocks, first, last, base.offset + begin, base.offset + end)
        deeper = self._links(below, _fetched.read(pack, below.begin, end - begin, depth + 1), depth + 1)
        for number in leaning:
            links[number] += deeper[number]
        return links

    def _place(self, run: _Run, number: int, links: Sequence[_Link], into: Bytes) -> None:
        """Decode a block to where it goes, or what is wanted of it."""
        wanted, start = run.wanted, number * BLOCK
        length = min(BLOCK, run.segment.size - start)
        left, right = max(wanted.start, start), min(wanted.stop, start + length)
        target = into[wanted.at + left - wanted.start : wanted.at + right - wanted.start]
        whole = target if right - left == length else np.empty(length, np.uint8)
        try:
            for above, (held, stored) in enumerate(reversed(links)):
                codec.decode(stored, held.words, whole, base=whole if above else None)
            check_block(run.segment, run.blocks[number], whole)
        except (BadFormat, IntegrityError) as error:
            holders = "" if len(links) == 1 else f", or one of its {len(links) - 1} bases"
            raise type(error)(f"{_name(run.pack)}, segment {run.segment.id.hex()[:12]}{holders}: {error}") from error
        if whole is not target:
            target[:] = whole[left - start : right - start]
            with self._lock:
                self._recent[wanted.segment, number] = whole  # as it was asked for: by its id or a reference
                while len(self._recent) > _KEPT_BLOCKS:
                    self._recent.popitem(last=False)

    def _from_recent(self, wanted: _Wanted, into: Bytes) -> bool:
        """Give what a block holds that was decoded a moment ago; whether there was one."""
        number = wanted.start // BLOCK
        with self._lock:
            kept = self._recent.get((wanted.segment, number))
            if kept is None or wanted.stop > number * BLOCK + len(kept):
                return False
            self._recent.move_to_end((wanted.segment, number))
        into[wanted.at : wanted.at + wanted.stop - wanted.start] = kept[wanted.start % BLOCK :][
            : wanted.stop - wanted.start
        ]
        return True

    def _fetch_table(self, held: Segment, pack: Source) -> None:
        self._table(held, pack)

    def _table(self, held: Segment, pack: Source) -> list[Block]:
        if held.blocks == 1:
            return read_table(held, b"")
        key = held.id, held.check  # another pack may hold it otherwise
        with self._lock:
            found = self._tables.get(key)
            if found is not None:
                self._tables.move_to_end(key)
                return found
        size = table_size(held.size)
        data = pack.read(held.offset + held.stored - size, size)
        if len(data) != size:
            raise IntegrityError(f"{_name(pack)} ends within segment {held.id.hex()[:12]}")
        found = read_table(held, data)
        with self._lock:
            if self._tables.setdefault(key, found) is found:
                self._rows += len(found)
            while self._rows > _KEPT_ROWS and len(self._tables) > 1:
                self._rows -= len(self._tables.popitem(last=False)[1])
        return found


class PackedSource:
    """A packed blob's bytes.

    Args:
        decoder: gives blocks.
        parts: ids and sizes of the segments that make up the blob, in order.
    """

    def __init__(self, decoder: Decoder, parts: Sequence[tuple[bytes, int]]) -> None:
        self._decoder = decoder
        self._parts = parts
        self._ends = list(accumulate(size for _, size in parts))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ends[-1] if self._ends else 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        into = np.empty(max(0, min(length, self.size - offset)), np.uint8)
        self.read_into(offset, into.data)
        return into.tobytes()

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written.

        Raises:
            IntegrityError: something is damaged, or a segment is not here (code ``segment-missing``).
            BadFormat: something is damaged in a way that shows in its form.
        """
        count = max(0, min(len(into), self.size - offset))
        if count:
            self._decoder.fill(self._wanted(offset, count), np.frombuffer(into, np.uint8)[:count])
        return count

    def _wanted(self, offset: int, count: int) -> list[_Wanted]:
        number, found, at = bisect_right(self._ends, offset), [], 0
        while at < count:
            segment, size = self._parts[number]
            start = offset + at - (self._ends[number] - size)
            stop = min(size, start + count - at)
            found.append(_Wanted(segment, start, stop, at))
            at += stop - start
            number += 1
        return [one for one in found if one.stop > one.start]


def _follows(run: _Run, others: Sequence[_Run]) -> bool:
    """Whether a run is fetched together with others that come before it; one with bases has enough to fetch alone."""
    return (
        run.pack is others[-1].pack
        and run.segment.base is None
        and others[-1].segment.base is None
        and 0 <= run.begin - others[-1].end <= _GAP
        and run.end - others[0].begin <= _room(run.pack)
    )


def _room(pack: Source) -> int:
    """Bytes that are fetched at once."""
    return _NEAR_RUN if isinstance(pack, FileSource) else _FAR_RUN


def _most(held: Segment, pack: Source) -> int:
    """Blocks of a segment that one thread decodes at once; those of its bases are fetched with them."""
    return max(1, _room(pack) // BLOCK // (held.depth + 1)) if held.base is not None else _MANY


def _name(pack: Source) -> str:
    return f"pack {pack.file.stem[:12]}" if isinstance(pack, FileSource) else "a pack"


def _missing(segment: bytes) -> IntegrityError:
    return IntegrityError(
        f"segment {segment.hex()[:12]} is in no pack here",
        code="segment-missing",
        hint="assay verify --all says which versions are hit",
    )
