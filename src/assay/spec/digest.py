"""The identity of bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from assay.errors import InvalidInput

_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_SHAPE = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<hex>[0-9a-f]+)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Algorithm and hexadecimal value that identify bytes (OCI image-spec, "Digests").

    >>> Digest.parse("sha256:" + "0" * 64).short
    'sha256:000000000000'
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = _HEX_LENGTHS.get(self.algorithm)
        if length is None:
            raise InvalidInput(
                f"digest algorithm is not supported: expected sha256 or sha512, found {self.algorithm!r}",
                code="invalid-digest",
            )
        if len(self.hex) != length or not _SHAPE.fullmatch(str(self)):
            raise InvalidInput(
                f"digest is malformed: expected {length} lower-case hex digits after {self.algorithm}:, "
                f"found {self.hex[:140]!r}",
                code="invalid-digest",
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.

        Raises:
            InvalidInput: the text is not a supported digest.
        """
        algorithm, colon, hexadecimal = text.partition(":")
        if not colon:
            raise InvalidInput(
                f"digest is malformed: expected sha256:<64 hex digits>, found {text[:140]!r}",
                code="invalid-digest",
            )
        return cls(algorithm, hexadecimal)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """The sha256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @property
    def short(self) -> str:
        """The form people read: algorithm and the first twelve digits."""
        return f"{self.algorithm}:{self.hex[:12]}"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


EMPTY = Digest.of(b"")
"""Digest of zero bytes."""
