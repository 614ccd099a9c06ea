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
        tries: how often an operation is tried anew after the client library has given up retrying it.
        rest: pause before the first new try; it grows, with jitter.
    """

    piece: int = 8 << 20
    parallel: int = 4
    stall: timedelta = timedelta(seconds=20)
    longest: timedelta = timedelta(seconds=180)
    tries: int = 5
    rest: float = 0.25

    def retries(self) -> dict[str, Any]:
        """The client library's own share: short, so that an interruption is heard."""
        return {
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=60),
            "backoff": {"init_backoff": timedelta(seconds=self.rest), "max_backoff": timedelta(seconds=4), "base": 2},
        }


DEFAULT = Options()
