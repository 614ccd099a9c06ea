"""How patient and how parallel to be with a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """How patient and how parallel to be.

    Args:
        piece: bytes per request when much is read or written.
        parallel: requests at a time.
        stall: without a byte for so long, a read is given up and asked for again.
        longest: what one request may take, its body included.
        tries: how often an operation is tried.
        patience: seconds without headway after which no new try is begun.
        rest: pause before the first new try; it grows, with jitter.
    """

    piece: int = 8 << 20
    parallel: int = 4
    stall: timedelta = timedelta(seconds=20)
    longest: timedelta = timedelta(seconds=180)
    tries: int = 9
    patience: float = 300.0
    rest: float = 0.25

    def retries(self, most: int) -> dict[str, Any]:
        """The client library's own share.

        Args:
            most: how often it tries again what it does not tell us of: the parts of an upload. The rest is tried again
                by us, who then know that something is wrong, and hear an interruption.
        """
        return {
            "max_retries": most,
            "retry_timeout": timedelta(seconds=60),
            "backoff": {"init_backoff": timedelta(seconds=self.rest), "max_backoff": timedelta(seconds=4), "base": 2},
        }


DEFAULT = Options()
