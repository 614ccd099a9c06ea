"""Reading a file for a bucket: hashed while it is sent, and complete only if it still is what it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

from assay.errors import Conflict, StorageError
from assay.ports.progress import Progress
from assay.spec.digest import Digest

_READ = 4 << 20


class Upload:
    """The bytes of a file whose digest is known, for sending.

    Args:
        source: a descriptor.
        size: its length.
        digest: what its bytes must have.
        check: raises when the file was changed.
        progress: hears of every byte once, however often sending begins anew.
    """

    def __init__(self, source: int, size: int, digest: Digest, check: Callable[[], None], progress: Progress) -> None:
        self._source = source
        self._size = size
        self._digest = digest
        self._check = check
        self._progress = progress
        self._told = 0

    def parts(self) -> Iterator[bytes]:
        """The bytes in order; the last ones only after everything was compared with the digest.

        Raises:
            Conflict: the file changed (code ``source-changed``); what was sent so far never becomes visible.
            StorageError: it cannot be read.
        """
        hasher = hashlib.new(self._digest.algorithm)
        offset = 0
        while offset < self._size:
            data = self._read(offset)
            if not data:
                self._check()
                raise Conflict("the file became shorter while it was read", code="source-changed")
            hasher.update(data)
            offset += len(data)
            if offset == self._size:
                self._check()
                if hasher.hexdigest() != self._digest.hex:
                    raise Conflict("the file changed while it was read", code="source-changed")
            yield data
            self._tell(offset)

    def _read(self, offset: int) -> bytes:
        try:
            return os.pread(self._source, min(_READ, self._size - offset), offset)
        except OSError as error:  # must not be taken for one of the bucket's
            raise StorageError.of(error, "cannot read the file that is sent") from error

    def _tell(self, offset: int) -> None:
        if offset > self._told:
            self._progress.advance(offset - self._told)
            self._told = offset


def read_whole(source: int, size: int) -> bytes:
    """All bytes behind a descriptor, from its beginning.

    Args:
        source: the descriptor.
        size: how many are expected.
    """
    parts = []
    offset = 0
    while data := os.pread(source, max(1, size - offset), offset):
        parts.append(data)
        offset += len(data)
    return b"".join(parts)
