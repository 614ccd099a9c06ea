"""The port of progress: long work says how far it is, and does not know who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listens to one piece of long work. Called from several threads."""

    def start(self, what: str, total: int) -> None:
        """Work begins.

        Args:
            what: a few words (``storing``, ``verifying``).
            total: bytes to go through.
        """
        ...

    def advance(self, count: int) -> None:
        """*count* more bytes are done."""
        ...

    def finish(self) -> None:
        """The work is over, whether it succeeded or not."""
        ...


class Silent:
    """Nobody listens."""

    def start(self, what: str, total: int) -> None:
        """Ignore it."""

    def advance(self, count: int) -> None:
        """Ignore it."""

    def finish(self) -> None:
        """Ignore it."""


SILENT = Silent()
