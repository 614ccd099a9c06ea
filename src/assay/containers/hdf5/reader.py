"""Addresses and numbers of an HDF5 file: the superblock, and a reader that stays within limits.

Source of the layout: "HDF5 File Format Specification Version 3.0", section II (superblock). Addresses in a file count
from its base, which is where the superblock was found (a user block may lie before it).
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

SIGNATURE = b"\x89HDF\r\n\x1a\n"

MAX_STEPS = 3_000_000
"""Messages, links, index entries and heap objects looked at in one file."""

MAX_METADATA = 256 << 20
"""Bytes of metadata read from one file, counting repeated reads."""

_USER_BLOCKS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Places where the superblock is looked for: 0, then doubling from 512 (the specification has no last one)."""


@dataclass(frozen=True, slots=True)
class Superblock:
    """What the superblock says.

    Args:
        version: 0 to 3.
        base: offset of the superblock in the window; addresses count from here.
        offset_size: bytes of an address.
        length_size: bytes of a length.
        root: address of the root group's object header.
    """

    version: int
    base: int
    offset_size: int
    length_size: int
    root: int


def is_hdf5(head: bytes) -> bool:
    """Whether an entry's head holds an HDF5 signature where one may lie."""
    return any(head[at : at + 8] == SIGNATURE for at in _USER_BLOCKS if at < len(head))


class Reader:
    """Bounded reads by address.

    Args:
        window: the file.

    Raises:
        BadFormat: there is no superblock, or one of an unknown version.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self._steps = 0
        self._metadata = 0
        self.superblock = self._superblock()
        self.undefined = (1 << (8 * self.superblock.offset_size)) - 1

    def step(self, count: int = 1) -> None:
        """Count work done.

        Raises:
            LimitExceeded: ``MAX_STEPS`` were done before.
        """
        self._steps += count
        if self._steps > MAX_STEPS:
            raise LimitExceeded(f"{self.window.path}: more than {MAX_STEPS:,} HDF5 records", path=self.window.path)

    def read(self, address: int, length: int) -> bytes:
        """Exactly *length* bytes of metadata at *address*.

        Raises:
            BadFormat: they lie outside the file.
            LimitExceeded: ``MAX_METADATA`` bytes were read before.
        """
        self._metadata += length
        if self._metadata > MAX_METADATA:
            raise LimitExceeded(
                f"{self.window.path}: more than {MAX_METADATA:,} bytes of HDF5 metadata", path=self.window.path
            )
        return self.window.exactly(self.superblock.base + address, length)

    def cursor(self, address: int, length: int, signature: bytes = b"") -> Cursor:
        """A cursor over *length* bytes at *address*, behind their signature.

        Raises:
            BadFormat: the bytes lie outside the file, or the signature is another one.
        """
        data = self.read(address, length)
        if data[: len(signature)] != signature:
            raise self.bad(f"expected {signature.decode()!r}, found {data[: len(signature)]!r}", address)
        self.step()
        cursor = self.over(data)
        cursor.at = len(signature)
        return cursor

    def over(self, data: bytes) -> Cursor:
        """A cursor over bytes already read."""
        return Cursor(data, self.superblock.offset_size, self.superblock.length_size, self.window.path)

    def position(self, address: int) -> int:
        """Offset in the entry of an address."""
        return self.window.start + self.superblock.base + address

    def inside(self, address: int, length: int) -> bool:
        """Whether a range lies in the file."""
        return self.superblock.base + address + length <= self.window.size

    def bad(self, message: str, address: int) -> BadFormat:
        """The error for bytes at *address* that disobey the format."""
        return BadFormat(
            f"{self.window.path}: {message} at address {address}",
            path=self.window.path,
            offset=self.position(address),
        )

    def _superblock(self) -> Superblock:
        window = self.window
        for base in _USER_BLOCKS:
            if base + 8 <= window.size and window.read(base, 8) == SIGNATURE:
                break
        else:
            raise BadFormat(f"{window.path}: no HDF5 signature", path=window.path, offset=window.start)
        head = window.read(base, 128)
        version = head[8] if len(head) > 8 else -1
        if version in {0, 1}:
            sizes, fixed = head[13:15], 24 + (4 if version else 0)
        elif version in {2, 3}:
            sizes, fixed = head[9:11], 12
        else:
            raise BadFormat(f"{window.path}: HDF5 superblock version {version}, expected 0 to 3", path=window.path)
        if len(sizes) < 2 or any(size not in {2, 4, 8} for size in sizes):
            raise BadFormat(
                f"{window.path}: HDF5 addresses of {list(sizes)} bytes, expected 2, 4 or 8", path=window.path
            )
        cursor = Cursor(head, sizes[0], sizes[1], window.path)
        # Both kinds: base, then two addresses we do not use; the old kind has a driver block and a link name more.
        cursor.at = fixed + (5 if version < 2 else 3) * sizes[0]
        return Superblock(version, base, sizes[0], sizes[1], cursor.address())


class Cursor:
    """Reads little-endian numbers one after another from bytes in memory.

    Args:
        data: the bytes.
        offset_size: bytes of an address.
        length_size: bytes of a length.
        path: for messages.
    """

    __slots__ = ("at", "data", "length_size", "offset_size", "path")

    def __init__(self, data: bytes, offset_size: int, length_size: int, path: str) -> None:
        self.data = data
        self.at = 0
        self.offset_size = offset_size
        self.length_size = length_size
        self.path = path

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """The next *count* bytes.

        Raises:
            BadFormat: fewer are left.
        """
        if count < 0 or count > self.left:
            raise BadFormat(f"{self.path}: an HDF5 record ends {count - self.left} bytes early", path=self.path)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """The next unsigned number of *size* bytes."""
        return int.from_bytes(self.take(size), "little")

    def address(self) -> int:
        """The next address."""
        return self.number(self.offset_size)

    def length(self) -> int:
        """The next length."""
        return self.number(self.length_size)

    def text(self, *, padded_to: int = 1) -> str:
        """The next NUL-terminated text, with the padding behind it.

        Raises:
            BadFormat: there is no NUL.
        """
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise BadFormat(f"{self.path}: an HDF5 name has no end", path=self.path)
        raw = self.data[self.at : end]
        self.take(min(-(-(len(raw) + 1) // padded_to) * padded_to, self.left))
        return raw.decode("utf-8", "replace")


def bytes_for(limit: int) -> int:
    """Bytes that hold any number up to *limit*, as the library counts them."""
    return max(1, (limit.bit_length() + 7) // 8)
