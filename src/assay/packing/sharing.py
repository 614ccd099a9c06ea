"""Jobs that a caller shares with a few threads: whoever is free takes the next one, and the caller works, too.

There is one set of threads per process. A caller never waits for a job that nobody has begun, so that jobs may share
jobs of their own: with every thread busy the caller does all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

Job = Callable[[], None]

_affinity = getattr(os, "sched_getaffinity", None)
PROCESSORS = max(1, len(_affinity(0)) if _affinity is not None else os.cpu_count() or 1)
MOST_THREADS = 8
"""Who works off shared jobs that mostly wait for something, the caller included."""
THREADS = min(MOST_THREADS, max(2, PROCESSORS))
"""Likewise where jobs keep a processor busy."""


class _Threads:
    """The threads, made when they are first wanted; a forked child begins without."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MOST_THREADS - 1, "assay-share")
            return self._pool

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]


_threads = _Threads()
os.register_at_fork(after_in_child=_threads.forget)


class _Shared:
    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self.stopped = False

    def work(self) -> None:
        """Do jobs until there are none left, or one failed."""
        try:
            while True:
                with self._lock:
                    job = None if self.stopped else next(self._jobs, None)
                if job is None:
                    return
                job()
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            with self._lock:
                self.error = self.error or error
                self.stopped = True


def share(jobs: Iterable[Job], *, threads: int = THREADS) -> None:
    """Do jobs, several at a time, in the order in which they are given; they are made one by one as they are taken.

    Args:
        jobs: what to do. One that fails ends it: those not begun are left out, those begun are waited for.
        threads: how many at most, this one included.

    Raises:
        BaseException: whatever a job, or making one, raised first.
    """
    shared = _Shared(iter(jobs))
    helpers = [_threads.get().submit(shared.work) for _ in range(min(threads, MOST_THREADS) - 1)]
    try:
        shared.work()
    finally:
        shared.stopped = True
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if shared.error is not None:
        raise shared.error
