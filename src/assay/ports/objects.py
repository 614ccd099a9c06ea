"""The port of object stores: named bytes in a bucket, each written whole.

What a home in a bucket is made of, below blobs, packs and journal. Keys are relative to the home's prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was found.

    Args:
        key: its name below the prefix.
        size: bytes.
        modified: when it was last written, by the server's clock; some servers only tell the second.
        etag: changes with every other content.
    """

    key: str
    size: int
    modified: datetime
    etag: str


class Objects(Protocol):
    """Objects below one prefix of a bucket; strongly consistent, safe for several threads.

    What the network does is retried; what is raised in the end is a ``StorageError`` with one of the codes
    ``bucket-missing``, ``bucket-credentials``, ``bucket-denied``, ``bucket-region``, ``bucket-clock``, ``bucket-busy``,
    ``bucket-unreachable``, ``bucket-failed``.
    """

    @property
    def place(self) -> str:
        """What to call it, for people: ``s3://bucket/prefix``."""
        ...

    def head(self, key: str) -> Found | None:
        """What is known of an object without its bytes; None when it is not there.

        Raises:
            StorageError: the place failed.
        """
        ...

    def get(self, key: str) -> bytes:
        """All bytes of a small object.

        Raises:
            NotFound: it is not there (code ``object-missing``).
            StorageError: the place failed.
        """
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length) of an object that has them.

        Raises:
            NotFound: it is not there (code ``object-missing``).
            StorageError: the place failed, or the object ends before.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, whatever is there.

        Raises:
            StorageError: the place failed; whether it was written is not known.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; whether what is there now is *data*.

        Of several writers at once one wins. An answer can get lost on the way, so writers that must be told apart write
        something of their own (an id) into *data*: the same bytes count as written by this call.

        Raises:
            StorageError: the place failed; whether it was written is not known.
        """
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[Found]:
        """Objects whose keys begin with *prefix*, in the order of their keys, from behind *after*.

        Args:
            prefix: whole folders, ending with ``/``, or empty.
            after: a key.

        Raises:
            StorageError: the place failed.
        """
        ...

    def delete(self, *keys: str) -> None:
        """Remove objects; those that are not there are no error.

        Raises:
            StorageError: the place failed.
        """
        ...
