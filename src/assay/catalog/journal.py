"""The journal: one event per line, append-only, durable before a change is visible (``docs/spec/journal.md``).

A line that was cut off by a crash is the last one, was never visible, and counts as not written: readers ignore it, the
next writer removes it. A damaged line before the end is an error, never skipped.

Rule for editors: whoever appends holds ``lock`` from before it looked at the catalog until the change is committed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Protocol

from assay.catalog.locking import alone
from assay.errors import InvalidInput, StorageError
from assay.spec.json import canonical
from assay.spec.records import Event, EventKind
from assay.streams.durable import flush, write_at

_CHUNK = 1 << 20
_KINDS = frozenset(kind.value for kind in EventKind)
_FIELDS = {"sequence", "kind", "name", "at", "actor", "data"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two events.

    Args:
        offset: bytes before it.
        sequence: events before it.
        check: sha256 (hex) of the line before it; tells one journal from another. Empty at the beginning.
        length: bytes of that line.
    """

    offset: int = 0
    sequence: int = 0
    check: str = ""
    length: int = 0


START = Mark()


class Journal(Protocol):
    """Where events are kept, in order."""

    def lock(self) -> AbstractContextManager[object]:
        """Hold off every other writer.

        Raises:
            Conflict: another writer did not finish in time (code ``catalog-busy``).
            StorageError: the journal may not be written.
        """
        ...

    def end(self, after: Mark) -> int:
        """Where the journal ends now, in bytes; at least up to *after* it is the journal that mark was taken from.

        Raises:
            StorageError: it is shorter, or another one (code ``journal-damaged``).
        """
        ...

    def read(self, after: Mark) -> Iterator[tuple[Event, Mark]]:
        """Events after a mark, each with the mark behind it.

        Raises:
            StorageError: a line is damaged (code ``journal-damaged``).
        """
        ...

    def append(self, after: Mark, events: Sequence[Event]) -> Mark:
        """Write events behind a mark, durably; what lies there (a cut-off line) is removed. Hold ``lock``.

        Raises:
            StorageError: nothing is written.
        """
        ...


def encode(event: Event) -> bytes:
    """The line of an event, with its line feed.

    Raises:
        InvalidInput: a text in it is no valid Unicode (code ``invalid-event``).
    """
    body = {
        "sequence": event.sequence,
        "kind": event.kind.value,
        "name": event.name,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "actor": event.actor,
        "data": dict(event.data),
    }
    try:
        return canonical(body) + b"\n"
    except ValueError as error:
        raise InvalidInput(f"cannot record {event.kind} of {event.name!r}: {error}", code="invalid-event") from error


def decode(line: bytes) -> Event:
    """Read a line.

    Raises:
        json.JSONDecodeError, UnicodeDecodeError: it is no JSON: perhaps it was cut off.
        StorageError: it is an event of a kind that this release does not know (code ``journal-too-new``).
        ValueError, TypeError: it is JSON and no event.
    """
    body = json.loads(line)
    if not isinstance(body, dict) or not body.keys() >= _FIELDS or not isinstance(body["data"], dict):
        raise ValueError("not an event")
    if body["kind"] not in _KINDS:
        raise StorageError(
            f"the journal holds an event of a kind that this release does not know: {body['kind']!r:.60}",
            code="journal-too-new",
            hint="upgrade: pip install --upgrade assay",
        )
    return Event(
        sequence=int(body["sequence"]),
        kind=EventKind(body["kind"]),
        name=str(body["name"]),
        at=datetime.fromisoformat(body["at"]).astimezone(UTC),
        actor=str(body["actor"]),
        data=body["data"],
    )


def mark_behind(line: bytes, event: Event, start: int) -> Mark:
    """The mark behind a line that begins at *start*."""
    return Mark(start + len(line), event.sequence, hashlib.sha256(line).hexdigest(), len(line))


class MemoryJournal:
    """A journal in memory; durable for as long as the object lives."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._lock = RLock()

    def lock(self) -> AbstractContextManager[object]:
        """Hold off every other thread."""
        return self._lock

    def end(self, after: Mark) -> int:  # noqa: ARG002 - memory does not get shorter
        """Bytes of all events."""
        return self._size

    def read(self, after: Mark) -> Iterator[tuple[Event, Mark]]:
        """Events after a mark."""
        mark = after
        for line in self._lines[after.sequence :]:
            event = decode(line)
            mark = mark_behind(line, event, mark.offset)
            yield event, mark

    def append(self, after: Mark, events: Sequence[Event]) -> Mark:
        """Keep events."""
        mark = after
        for event in events:
            line = encode(event)
            self._lines.append(line)
            mark = mark_behind(line, event, mark.offset)
        self._size = mark.offset
        return mark


_CUT = (
    "put the journal back from a backup; without one, cut it off at that byte (truncate --size) and run assay reindex: "
    "what was said after it is lost, the blobs are not"
)


class FileJournal:
    """A journal in a file, shared by threads and processes of one machine.

    Args:
        file: need not exist yet.
        writable: False for a home that may not be written; then ``lock`` refuses.
    """

    def __init__(self, file: Path, *, writable: bool = True) -> None:
        self.file = file
        self.writable = writable

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold off every other writer, of this and other processes, by ``flock`` on the journal."""
        if not self.writable:
            raise StorageError(
                f"cannot change the catalog: {self.file.parent} is read-only",
                code="store-read-only",
                hint="use a place you may write to (ASSAY_HOME), or ask its owner for the right to write",
            )
        with alone(self.file):
            yield

    def end(self, after: Mark) -> int:
        """The size of the file, after a check that the line before the mark is still there."""
        with self._failing("cannot read"), _reading(self.file) as descriptor:
            if descriptor is None:
                size, line = 0, b""
            else:
                size = os.fstat(descriptor).st_size
                line = os.pread(descriptor, after.length, after.offset - after.length)
        if after.sequence and hashlib.sha256(line).hexdigest() != after.check:
            raise self._damaged(
                f"expected event {after.sequence} before byte {after.offset}, as the catalog has it, "
                f"found {'another line' if line else 'the end of the file'}",
                hint="put the journal back from a backup; without one, assay reindex goes on with what is left",
            )
        return size

    def read(self, after: Mark) -> Iterator[tuple[Event, Mark]]:
        """Events after a mark, each with the mark behind it; a cut-off last line is left out."""
        mark = after
        with self._failing("cannot read"), _reading(self.file) as descriptor:
            if descriptor is None:
                return
            for line, last in _lines(descriptor, after.offset):
                event = self._decode(line, mark, last=last)
                if event is None:
                    return
                mark = mark_behind(line, event, mark.offset)
                yield event, mark

    def append(self, after: Mark, events: Sequence[Event]) -> Mark:
        """Write events behind a mark, durably."""
        mark = after
        lines = b""
        for event in events:
            line = encode(event)
            lines += line
            mark = mark_behind(line, event, mark.offset)
        with self._failing("cannot write to"):
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _write_durably(descriptor, lines, after.offset)
                if after.offset == 0:
                    flush(self.file.parent)
            finally:
                os.close(descriptor)
        return mark

    def _decode(self, line: bytes, before: Mark, *, last: bool) -> Event | None:
        # A line feed is written last. Where the system lost a block, its place may hold zeros instead of a line.
        if last and (not line.endswith(b"\n") or not line.startswith(b"{")):
            return None
        try:
            event = decode(line)
        except (ValueError, TypeError) as error:
            raise self._damaged(f"the line at byte {before.offset} is no event ({error})", hint=_CUT) from error
        if event.sequence != before.sequence + 1:
            raise self._damaged(
                f"expected event {before.sequence + 1} at byte {before.offset}, found {event.sequence}", hint=_CUT
            )
        return event

    def _damaged(self, what: str, hint: str = "put the journal back from a backup") -> StorageError:
        return StorageError(
            f"journal {self.file} does not hold what it did: {what}",
            code="journal-damaged",
            hint=hint,
        )

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError.of(error, f"{doing} the journal {self.file}", path=str(self.file)) from error


@contextmanager
def _reading(file: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lines(descriptor: int, offset: int) -> Iterator[tuple[bytes, bool]]:
    """Lines from an offset on, each with whether it is the last one."""
    held, rest = None, b""
    while data := os.pread(descriptor, _CHUNK, offset):
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if held is not None:
                yield held, False
            held = line + b"\n"
    if rest:
        if held is not None:
            yield held, False
        held = rest
    if held is not None:
        yield held, True


def _write_durably(descriptor: int, data: bytes, offset: int) -> None:
    try:
        os.ftruncate(descriptor, offset)
        write_at(descriptor, data, offset)
        os.fsync(descriptor)
    except BaseException:
        # Reported as not written, so it must not turn up later.
        os.ftruncate(descriptor, offset)
        raise
