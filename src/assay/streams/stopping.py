"""Giving up work that runs in several threads: each of them hears of it at its next bytes.

Without that, who interrupts a copy waits until the large files are through that are under way.
"""

from __future__ import annotations

from assay.ports.progress import Progress


class Stopped(Exception):
    """The whole was given up; whoever did that says why."""


class Stoppable:
    """Progress that ends work from the outside.

    Args:
        progress: hears of everything until then.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stopped = False

    def stop(self) -> None:
        """Let every later ``advance`` end the work that calls it."""
        self._stopped = True

    def start(self, what: str, total: int) -> None:
        """Work begins."""
        self._progress.start(what, total)

    def advance(self, count: int) -> None:
        """*count* more bytes are done.

        Raises:
            Stopped: ``stop`` was called.
        """
        if self._stopped:
            raise Stopped
        self._progress.advance(count)

    def finish(self) -> None:
        """The work is over."""
        self._progress.finish()
