"""Bytes on their way to a device: read into buffers that take turns, copied while the next one is read.

Concept: a reader thread fills buffers in the order of the files; who places tensors takes them, copies what belongs to
each tensor, and hands the buffer back. For CUDA the buffers are page-locked and the copies queued on a stream of their
own: a buffer is handed back once its copies are done. Elsewhere copies are done when the call returns.

The order and the turns are tested on the processor. That CUDA copies overlap was never measured here: there was no GPU.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.artifact.ahead import read_ahead
from assay.artifact.bulk import Piece, Run
from assay.artifact.layout import span
from assay.artifact.ranges import fill
from assay.trees import Tree
from assay.trees.window import FileSource

BUFFER = 32 << 20
"""Bytes of one buffer."""

BUFFERS = 3
"""One is read into, one is copied from, one is between."""


@dataclass(frozen=True, slots=True)
class Staging:
    """The way to a device.

    Args:
        torch: the module.
        device: where to.
        buffers: host memory, one-dimensional tensors of bytes, at least two.
        stream: the CUDA stream that copies are queued on; None where copies are done at once.
    """

    torch: Any
    device: Any
    buffers: Sequence[Any]
    stream: Any = None

    @classmethod
    def on(cls, torch: Any, device: Any, *, size: int = BUFFER, count: int = BUFFERS) -> Staging:
        """Buffers for a device: page-locked for CUDA."""
        cuda = device.type == "cuda"
        buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=cuda) for _ in range(count)]
        return cls(torch, device, buffers, torch.cuda.Stream(device) if cuda else None)

    def empty(self, count: int, dtype: Any) -> Any:
        """Room for elements on the device."""
        return self.torch.empty(count, dtype=dtype, device=self.device)

    def copy(self, into: Any, buffer: Any) -> None:
        """Copy bytes of a buffer; they may be under way when this returns."""
        if self.stream is None:
            into.copy_(buffer)
            return
        # The room may have been somebody else's a moment ago, on the stream that the caller works on.
        self.stream.wait_stream(self.torch.cuda.current_stream(self.device))
        with self.torch.cuda.stream(self.stream):
            into.copy_(buffer, non_blocking=True)
            into.record_stream(self.stream)

    def mark(self) -> Callable[[], None]:
        """A function that waits until every copy so far is done."""
        if self.stream is None:
            return _done
        event = self.torch.cuda.Event()
        event.record(self.stream)
        return event.synchronize  # type: ignore[no-any-return] # torch is untyped here


def _done() -> None:
    """Nothing is under way."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    run: Run
    start: int
    stop: int


def place(
    runs: Sequence[Run], tree: Tree, staging: Staging, dtype: Callable[[Piece], Any]
) -> Iterator[tuple[Piece, Any]]:
    """The flat elements of every piece, on the device, in the order of *runs*.

    Args:
        runs: what is wanted; every piece has an extent.
        tree: the files.
        staging: the way.
        dtype: the framework's type for a piece.

    Raises:
        BadFormat, IntegrityError, StorageError: reading failed.
    """
    for path in dict.fromkeys(run.path for run in runs):
        source = tree.source(path)
        if isinstance(source, FileSource):
            read_ahead(source.file, [(run.start, run.stop) for run in runs if run.path == path])
    reader = _Reader(runs, tree, staging.buffers)
    try:
        waiting: list[tuple[Piece, Any]] = []
        for stretch, buffer in reader:
            if stretch.start == stretch.run.start:
                if waiting:
                    staging.mark()()
                    yield from waiting
                made = [staging.empty(span(piece.spec), dtype(piece)) for piece in stretch.run.pieces]
                waiting = list(zip(stretch.run.pieces, made, strict=True))
            for piece, flat in waiting:
                _copy_part(staging, stretch, buffer, piece, flat)
            reader.give_back(buffer, staging.mark())
        staging.mark()()
        yield from waiting
    finally:
        reader.stop()


def _copy_part(staging: Staging, stretch: _Stretch, buffer: Any, piece: Piece, flat: Any) -> None:
    """What of a stretch belongs to one piece."""
    begin, end = piece.place
    left, right = max(begin, stretch.start), min(end, stretch.stop)
    if left < right:
        into = flat.view(staging.torch.uint8)[left - begin : right - begin]
        staging.copy(into, buffer[left - stretch.start : right - stretch.start])


class _Reader:
    """Fills buffers in a thread of its own."""

    def __init__(self, runs: Sequence[Run], tree: Tree, buffers: Sequence[Any]) -> None:
        self._runs, self._tree, self._size = runs, tree, len(buffers[0])
        self._free: queue.SimpleQueue[tuple[Any, Callable[[], None]] | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[_Stretch, Any] | BaseException | None] = queue.SimpleQueue()
        for buffer in buffers:
            self._free.put((buffer, _done))
        self._thread = threading.Thread(target=self._read, name="assay-staging", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[_Stretch, Any]]:
        while (found := self._full.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def give_back(self, buffer: Any, wait: Callable[[], None]) -> None:
        """The buffer may be filled again once *wait* returns."""
        self._free.put((buffer, wait))

    def stop(self) -> None:
        """Read no more, and wait until nothing is read any more."""
        self._free.put(None)
        self._thread.join()

    def _stretches(self) -> Iterator[_Stretch]:
        for run in self._runs:
            for start in range(run.start, max(run.stop, run.start + 1), self._size):
                yield _Stretch(run, start, min(run.stop, start + self._size))

    def _read(self) -> None:
        try:
            for stretch in self._stretches():
                turn = self._free.get()
                if turn is None:
                    return
                buffer, wait = turn
                wait()
                part = buffer[: stretch.stop - stretch.start].numpy()
                fill(self._tree.source(stretch.run.path), stretch.start, part, stretch.run.path)
                self._full.put((stretch, buffer))
            self._full.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the buffers are taken
            self._full.put(error)
