"""What sources of far blobs share: parts that are fetched at once, the last few blocks, which copy it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any

from assay.trees import Source


def wait_for_all(jobs: Sequence[Future[Any]]) -> None:
    """Wait until every job is done, or given up because another one failed; its error is raised.

    Nobody writes into the caller's memory afterwards.
    """
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel()
        for job in jobs:
            if not job.cancelled():
                job.exception()


def mark_of(source: Source) -> str:
    """What tells the copy that a source reads from one that takes its place; empty where digests tell, or nothing."""
    return getattr(source, "mark", "")


class RecentBlocks:
    """The blocks that were used last; safe for several threads.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, number: int, fetch: Callable[[int], bytes]) -> bytes:
        """A block; fetched where it is not kept."""
        with self._lock:
            data = self._blocks.get(number)
            if data is not None:
                self._blocks.move_to_end(number)
                return data
        data = fetch(number)
        with self._lock:
            self._blocks[number] = data
            while len(self._blocks) > self._most:
                self._blocks.popitem(last=False)
        return data
