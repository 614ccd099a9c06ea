"""The journal in a bucket: the lines of ``journal``, cut into numbered objects (``docs/spec/journal.md``).

    journal/<last>-<first>.jsonl    events first ... last, sixteen digits each

Every event is made as an object of its own, conditionally: two writers cannot both make event n, and nothing is ever
half-written. Full, aligned runs of 64 and then of 4,096 events are written once more as one object, and the smaller
ones are removed. Because the last number comes first in a name, one listing that begins behind event n holds exactly
what a reader needs who knows n events; nothing new is an answer of one line.

Rule for editors: what an event says never changes once it is there, so the same run written twice has the same bytes,
and a reader may take any objects that cover what it wants. A larger object is written before smaller ones go.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from assay.catalog.journal import Mark, decode, encode, mark_behind
from assay.catalog.locking import alone
from assay.errors import Conflict, NotFound, StorageError
from assay.ports.objects import Objects
from assay.spec.records import Event

FOLDER = "journal/"
TIERS = (64, 4096)
"""Events of the runs that are written as one object."""
_NAME = re.compile(rf"{FOLDER}(\d{{16}})-(\d{{16}})\.jsonl", re.ASCII)
_TRIES = 6
_LESS = "put its objects back from a backup; without one, assay reindex goes on with what is left"
_WHOLE = "put its objects back from a backup or an earlier version"
_AHEAD = 16
"""Objects read at a time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """An object of the journal: the events *first* to *last*, in *size* bytes."""

    first: int
    last: int
    size: int

    @property
    def key(self) -> str:
        """Its name."""
        return key_of(self.first, self.last)


def key_of(first: int, last: int) -> str:
    """The name of the object with the events *first* to *last*."""
    return f"{FOLDER}{last:016d}-{first:016d}.jsonl"


class _Moved(Exception):
    """What was listed is gone: it was written as part of a larger object since."""


class BucketJournal:
    """A journal in a bucket; one machine writes, everybody reads.

    Args:
        objects: where it lies.
        lock_file: a local file, by which the processes of this machine take turns.
        permit: raises when this machine may not write.
    """

    def __init__(self, objects: Objects, lock_file: Path, permit: Callable[[], None]) -> None:
        self._objects = objects
        self._lock_file = lock_file
        self._place = objects.place
        self._permit = permit

    def lock(self) -> AbstractContextManager[None]:
        """Hold off the other processes of this machine; whether it may write is asked when it does."""
        return alone(self._lock_file)

    def end(self, after: Mark) -> int:
        """Where the journal ends: exact when there is nothing behind the mark, else about."""
        found = self.cover(after.sequence)
        newest = found[-1] if found else None
        if newest and newest.first == newest.last == after.sequence and newest.size != after.length:
            raise self._damaged(f"expected event {after.sequence} in {after.length} bytes, found {newest.size}", _LESS)
        return after.offset + sum(one.size for one in found if one.last > after.sequence)

    def read(self, after: Mark) -> Iterator[tuple[Event, Mark]]:
        """Events after a mark, each with the mark behind it; the event at the mark is compared first."""
        mark = after
        tries = 0
        while True:
            try:
                for event, behind in self._reading(mark):
                    mark, tries = behind, 0
                    yield event, behind
            except _Moved:
                tries += 1
                if tries == _TRIES:
                    raise self._damaged(f"an object behind event {mark.sequence} cannot be read") from None
            else:
                return

    def append(self, after: Mark, events: Sequence[Event]) -> Mark:
        """Write events, one object each; nothing that is behind the mark is ever replaced.

        Raises:
            Conflict: somebody else writes here (codes ``bucket-has-writer``, ``journal-moved``).
        """
        mark = after
        for event in events:
            self._permit()
            line = encode(event)
            self._append(event.sequence, line)
            mark = mark_behind(line, event, mark.offset)
            if mark.sequence % TIERS[0] == 0:
                with suppress(StorageError):  # the event is there; the next run comes by here again
                    self.compact()
        return mark

    def export(self, events: Sequence[Event]) -> None:
        """Write events that another journal holds, in one object; again and again does no harm.

        Raises:
            Conflict: the bucket holds other events with these numbers (code ``journal-moved``).
        """
        data = b"".join(encode(event) for event in events)
        key = key_of(events[0].sequence, events[-1].sequence)
        if not self._objects.put_if_absent(key, data):
            raise self._conflict(events[0].sequence)

    def compact(self) -> None:
        """Write full runs of events as one object each, and remove what they stand for.

        May be stopped at any point, and done by several at a time.
        """
        for size in TIERS:
            segments = self._listed(0)
            newest = max((one.last for one in segments), default=0)
            whole = {(one.first, one.last) for one in segments}
            loose = sorted({(one.last - 1) // size for one in segments if one.last - one.first + 1 < size})
            for run in loose:
                first, last = run * size + 1, (run + 1) * size
                if last > newest:
                    break
                self._compact(first, last, segments, written=(first, last) in whole)

    def _compact(self, first: int, last: int, segments: Sequence[Segment], *, written: bool) -> None:
        within = [one for one in segments if first <= one.first and one.last <= last]
        if not written:
            parts = _chain([one for one in segments if one.first <= last and one.last >= first], first - 1, last)
            if parts is None:
                return
            try:
                lines = {event.sequence: line for line, event in self._lines(parts) if first <= event.sequence <= last}
            except _Moved:
                return  # somebody else does the same
            if not self._objects.put_if_absent(
                key_of(first, last), b"".join(lines[number] for number in range(first, last + 1))
            ):
                raise self._conflict(first)
        self._objects.delete(*(one.key for one in within if (one.first, one.last) != (first, last)))

    def last(self, known: int = 0) -> int:
        """The number of the newest event; *known* when there is none behind that."""
        return max((one.last for one in self._listed(known + 1)), default=known)

    def cover(self, sequence: int) -> list[Segment]:
        """The objects that hold the event with this number, and all behind it, in order.

        Raises:
            StorageError: there is no such event, or one is missing behind it (code ``journal-damaged``).
        """
        for attempt in range(_TRIES):
            listed = self._listed(sequence)
            last = max((one.last for one in listed), default=0)
            found = _chain(listed, max(sequence - 1, 0), max(last, sequence))
            if found is not None:
                return found
            time.sleep(0.02 * attempt)  # a listing of several pages may fall between a larger object and what it holds
        if not listed:
            raise self._damaged(f"expected event {sequence}, as the catalog has it, found none", _LESS)
        raise self._damaged(f"events from {max(sequence, 1)} on are not all there")

    def _listed(self, sequence: int) -> list[Segment]:
        """Objects that hold the event with this number, or later ones."""
        found = []
        after = f"{FOLDER}{sequence - 1:016d}-~" if sequence > 1 else ""
        for item in self._objects.list(FOLDER, after=after):
            name = _NAME.fullmatch(item.key)
            if name and 1 <= int(name[2]) <= int(name[1]):
                found.append(Segment(int(name[2]), int(name[1]), item.size))
        return found

    def _reading(self, after: Mark) -> Iterator[tuple[Event, Mark]]:
        mark = after
        for line, event in self._lines(self.cover(after.sequence)):
            if event.sequence == after.sequence and hashlib.sha256(line).hexdigest() != after.check:
                raise self._damaged(f"event {event.sequence} is not the one that the catalog has", _LESS)
            if event.sequence == mark.sequence + 1:  # else it is known from the object before: they may overlap
                mark = mark_behind(line, event, mark.offset)
                yield event, mark

    def _lines(self, segments: Sequence[Segment]) -> Iterator[tuple[bytes, Event]]:
        """The lines of objects, each with its event."""
        waiting = iter(segments)
        with ThreadPoolExecutor(_AHEAD) as pool:
            while batch := list(islice(waiting, _AHEAD)):
                for segment, data in zip(batch, pool.map(self._get, batch), strict=True):
                    yield from self._split(segment, data)

    def _get(self, segment: Segment) -> bytes:
        try:
            return self._objects.get(segment.key)
        except NotFound:
            raise _Moved from None

    def _split(self, segment: Segment, data: bytes) -> Iterator[tuple[bytes, Event]]:
        lines = data.split(b"\n")
        if lines.pop() != b"" or len(lines) != segment.last - segment.first + 1:
            raise self._damaged(f"{segment.key} does not hold {segment.last - segment.first + 1} whole lines")
        for number, line in enumerate(lines, segment.first):
            try:
                event = decode(line)
            except (ValueError, TypeError) as error:
                raise self._damaged(f"line {number - segment.first + 1} of {segment.key} is no event") from error
            if event.sequence != number:
                raise self._damaged(f"expected event {number} in {segment.key}, found {event.sequence}")
            yield line + b"\n", event

    def _append(self, sequence: int, line: bytes) -> None:
        key = key_of(sequence, sequence)
        try:
            created = self._objects.put_if_absent(key, line)
        except StorageError as error:  # an answer that never came may have been a yes
            error.hint = f"it may have happened all the same: assay history says. {error.hint or 'Then run it again'}"
            raise
        if not created:
            raise self._conflict(sequence)
        # Others may have written this event long ago, and removed it for a larger object: then ours lies beside theirs.
        for larger in self._listed(sequence):
            if larger.key == key or not larger.first <= sequence <= larger.last:
                continue
            if not any(found == line for found, _ in self._lines([larger])):
                self._objects.delete(key)
                raise self._conflict(sequence)

    def _conflict(self, sequence: int) -> Conflict:
        return Conflict(
            f"somebody else wrote event {sequence} of {self._place} just now; nothing was changed",
            code="journal-moved",
            hint="run it again; if it happens again, another machine writes with this machine's identity",
        )

    def _damaged(self, what: str, hint: str = _WHOLE) -> StorageError:
        return StorageError(
            f"the journal in {self._place} does not hold what it did: {what}", code="journal-damaged", hint=hint
        )


def _chain(segments: Sequence[Segment], known: int, last: int) -> list[Segment] | None:
    """As few objects as can be that hold the events behind *known* up to *last*; None when there are none."""
    chain: list[Segment] = []
    ordered = sorted(segments, key=lambda one: one.first)
    place, best = 0, None
    while known < last:
        while place < len(ordered) and ordered[place].first <= known + 1:
            if best is None or (ordered[place].last, -ordered[place].first) > (best.last, -best.first):
                best = ordered[place]
            place += 1
        if best is None or best.last <= known:
            return None
        chain.append(best)
        known = best.last
    return chain
