"""Windows: read-at views of bytes, charged to a budget.

Concept: a ``Source`` is where bytes lie (memory, a file, a blob, a far object); a ``Window`` is a bounded, budgeted
view of a range of one. Containers and formats take windows only.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from assay.errors import BadFormat, LimitExceeded

_sharing = threading.Lock()
"""Of all files together: it is held for less than it takes to make a lock for each."""


def _begin_anew() -> None:
    """What a thread of the parent held when it forked nobody gives back in the child."""
    global _sharing  # noqa: PLW0603 - the one place where it changes
    _sharing = threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


class Source(Protocol):
    """Bytes at rest that can be read at any offset."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end of the source.

        Raises:
            StorageError: the place failed.
        """
        ...


@runtime_checkable
class Filling(Source, Protocol):
    """A source that writes into memory of the caller's: nothing is copied twice, and several threads may help."""

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written: fewer at the end of the source only.

        Args:
            offset: first byte.
            into: writable, of bytes (format ``B``), contiguous.

        Raises:
            StorageError: the place failed.
            IntegrityError: bytes that the place can check are damaged.
        """
        ...


def read_into(source: Source, offset: int, into: memoryview) -> int:
    """``Filling.read_into`` for any source."""
    fill = getattr(source, "read_into", None)  # asking whether it is ``Filling`` takes a tenth of a millisecond
    if fill is not None:
        return cast("Filling", source).read_into(offset, into)
    data = source.read(offset, len(into))
    into[: len(data)] = data
    return len(data)


class Budget:
    """How many bytes may still be read, shared by every window of one task (one task, one thread).

    Args:
        limit: bytes.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def charge(self, count: int, path: str) -> None:
        """Take *count* bytes out of the budget.

        Raises:
            LimitExceeded: there are not that many left.
        """
        if self.used + count > self.limit:
            raise LimitExceeded(
                f"reading {path or 'the file'} takes more than the {self.limit:,} bytes allowed for describing it",
                path=path,
            )
        self.used += count


class Window:
    """A view of [start, start + size) of a source.

    Args:
        source: where the bytes lie.
        path: the entry's path, for messages and extents.
        budget: what reads are charged to.
        start: first byte of the view in the source.
        size: length of the view; to the end of the source when None.
    """

    __slots__ = ("budget", "path", "size", "source", "start")

    def __init__(self, source: Source, path: str, budget: Budget, *, start: int = 0, size: int | None = None) -> None:
        whole = source.size
        if start < 0 or start > whole:
            raise BadFormat(f"{path}: offset {start} lies outside the {whole} bytes", path=path, offset=start)
        self.source = source
        self.path = path
        self.budget = budget
        self.start = start
        self.size = whole - start if size is None else min(size, whole - start)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Up to *length* bytes at *offset*: fewer at the end of the window, all that remain when None.

        Raises:
            LimitExceeded: the budget is used up.
        """
        if offset < 0:
            raise BadFormat(f"{self.path}: negative offset {offset}", path=self.path)
        remaining = max(0, self.size - offset)
        count = remaining if length is None else max(0, min(length, remaining))
        if count == 0:
            return b""
        self.budget.charge(count, self.path)
        return self.source.read(self.start + offset, count)

    def exactly(self, offset: int, length: int) -> bytes:
        """Exactly *length* bytes at *offset*.

        Raises:
            BadFormat: the window ends before; nothing is allocated in that case.
        """
        if length < 0 or offset < 0 or offset + length > self.size:
            raise BadFormat(
                f"{self.path}: expected {length} bytes at offset {self.start + offset}, "
                f"found {max(0, self.size - offset)}",
                path=self.path,
                offset=self.start + offset,
            )
        return self.read(offset, length)

    def sub(self, offset: int, length: int | None = None) -> Window:
        """A view of a part, cut off at the end of this one.

        Raises:
            BadFormat: the offset lies outside.
        """
        if offset < 0 or offset > self.size:
            raise BadFormat(
                f"{self.path}: offset {offset} lies outside the {self.size} bytes",
                path=self.path,
                offset=offset,
            )
        size = self.size - offset if length is None else min(length, self.size - offset)
        return Window(self.source, self.path, self.budget, start=self.start + offset, size=size)


class BytesWindow(Window):
    """A window over bytes in memory: decompressed members, tests."""

    __slots__ = ()

    def __init__(self, data: bytes, path: str = "", budget: Budget | None = None) -> None:
        super().__init__(MemorySource(data), path, budget or Budget(max(1 << 20, 64 * len(data))))


class FileWindow(Window):
    """A window over a local file with a budget of its own; for tools and tests."""

    __slots__ = ()

    def __init__(self, file: Path, limit: int = 1 << 40) -> None:
        super().__init__(FileSource(file), file.name, Budget(limit))


class MemorySource:
    """Bytes in memory."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        return self.data[offset : offset + length]


class FileSource:
    """A local file, opened on first use and kept open; position-independent reads (``pread``).

    Raises:
        OSError: from the constructor, when the file cannot be inspected.
    """

    __slots__ = ("_descriptor", "_size", "file")

    def __init__(self, file: Path) -> None:
        self._descriptor: int | None = None
        self.file = file
        self._size = file.stat().st_size

    @property
    def size(self) -> int:
        """Length in bytes when the source was made."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        descriptor = self._opened()
        parts = []
        while length > 0:
            part = os.pread(descriptor, min(length, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        descriptor, done = self._opened(), 0
        while done < len(into):
            count = os.preadv(descriptor, [into[done : done + (1 << 30)]], offset + done)
            if not count:
                break
            done += count
        return done

    def map(self) -> mmap.mmap:
        """The whole file as a read-only memory map; the file must not be empty."""
        with self.file.open("rb") as handle:
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Give the descriptor back; a later read opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        descriptor = self._descriptor
        return descriptor if descriptor is not None else self._share(os.open(self.file, os.O_RDONLY | os.O_CLOEXEC))

    def _share(self, opened: int) -> int:
        """The descriptor that counts from now on: another thread may have opened the file at the same time."""
        with _sharing:
            if self._descriptor is None:
                self._descriptor = opened
            found = self._descriptor
        if found != opened:
            os.close(opened)
        return found

    def __del__(self) -> None:
        self.close()
