"""Jobs that follow each other through threads: hashed, settled, encoded, finished, in the order in which they were put.

One thread, the caller's, reads, settles and finishes; workers hash and encode; one more adds up the digests of whole
blobs. What is settled in which order never depends on how fast threads are, so that the same blobs give the same pack.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_P = ParamSpec("_P")
_T = TypeVar("_T")

MOST_WORKERS = 8
_HASHING, _ENCODING = 2 << 20, 5 << 20
"""Bytes in each stage, per worker."""
_JOBS = 12
"""Jobs in both stages, per worker."""


class Job(Protocol):
    """A run of a blob's bytes on its way into the pack."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def settle(self) -> None:
        """Wait until its bytes are hashed, decide what becomes of them, let them be encoded."""
        ...

    def finish(self) -> None:
        """Wait until they are encoded, write them, give back what they took."""
        ...


class Crew:
    """The threads, and the memory that they work in."""

    def __init__(self) -> None:
        affinity = getattr(os, "sched_getaffinity", None)
        count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
        self.workers = max(1, min(MOST_WORKERS, count))
        self._pool = ThreadPoolExecutor(self.workers, "assay-pack")
        self._sums = ThreadPoolExecutor(1, "assay-sum")
        self._free: dict[int, list[Bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sums.shutdown(wait=True, cancel_futures=True)

    def work(self, what: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Let a worker do something; workers begin in the order in which they are asked."""
        return self._pool.submit(what, *args, **kwargs)

    def add_up(self, what: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Let the one thread that adds up digests do something, after all that it was asked before."""
        return self._sums.submit(what, *args, **kwargs)

    def take(self, size: int) -> Bytes:
        """Memory of *size* bytes that was used before, where there is some: fresh pages cost as much as the work."""
        free = self._free.setdefault(size, [])
        return free.pop() if free else np.empty(size, np.uint8)

    def give(self, buffer: Bytes) -> None:
        """Give memory back that was taken."""
        self._free[len(buffer)].append(buffer)


class Line:
    """Jobs under way.

    Args:
        workers: how many there are: so many jobs are kept under way that none waits.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._hashing, self._encoding = _Stage(), _Stage()

    def put(self, job: Job) -> None:
        """Add a job; older ones are settled and finished as room is needed."""
        self._hashing.add(job)
        while self._hashing.over(_HASHING * self._workers, _JOBS * self._workers // 4):
            self._settle()

    def settle(self) -> None:
        """Settle every job."""
        while self._hashing.jobs:
            self._settle()

    def drain(self) -> None:
        """Finish every job."""
        self.settle()
        while self._encoding.jobs:
            self._encoding.remove().finish()

    def _settle(self) -> None:
        job = self._hashing.remove()
        job.settle()
        self._encoding.add(job)
        while self._encoding.over(_ENCODING * self._workers, _JOBS * self._workers):
            self._encoding.remove().finish()


class _Stage:
    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self._size = 0

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        self._size += job.size

    def remove(self) -> Job:
        job = self.jobs.popleft()
        self._size -= job.size
        return job

    def over(self, size: int, count: int) -> bool:
        """Whether there is more in it than that, the last job aside."""
        return len(self.jobs) > 1 and (self._size > size or len(self.jobs) > count)
