"""The index's tables, and how rows are found in them.

A row's number is the first eight bytes of a digest, taken as an integer: one B-tree serves as table and as index, and a
hundred million rows cost what they hold. Where two digests share those bytes, the later one takes the next free number
and says its digest in full: ``rest`` then has 32 or 64 bytes instead of 24 or 56.

``segments.uses`` counts how often blobs are made of a segment; one with 0 is dead, or only a base. A segment without a
pack is named by something and lies nowhere. ``blobs.parts`` are the numbers of a blob's segments (i64, little-endian)
and, where there are several, their sizes (u64).

Rule for editors: a change of the tables raises ``SCHEMA``; an index of another schema is made anew from the packs.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar

from assay.blobs.packs.adding import LARGE
from assay.packing.codec import Words
from assay.spec.digest import Digest

SCHEMA = 1
WAIT = 120.0
"""Seconds to wait for another process that writes the index."""

T = TypeVar("T")
Table = Literal["segments", "blobs"]

_TABLES = f"""
CREATE TABLE packs(pack INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
  blobs INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0, spare INTEGER NOT NULL DEFAULT 0,
  gone INTEGER NOT NULL DEFAULT 0, fault TEXT NOT NULL DEFAULT '');
CREATE TABLE segments(key INTEGER PRIMARY KEY, rest BLOB NOT NULL, pack INTEGER, start INTEGER, stored INTEGER,
  size INTEGER, words INTEGER, base INTEGER, depth INTEGER, seal BLOB, uses INTEGER NOT NULL);
CREATE INDEX unused ON segments(pack, stored) WHERE uses = 0;
CREATE INDEX leaning ON segments(base) WHERE base IS NOT NULL;
CREATE INDEX nowhere ON segments(uses) WHERE pack IS NULL;
CREATE TABLE blobs(key INTEGER PRIMARY KEY, rest BLOB NOT NULL, size INTEGER, pack INTEGER, added INTEGER, parts BLOB);
CREATE INDEX large ON blobs(size) WHERE size >= {LARGE};
CREATE TABLE also(blob INTEGER, pack INTEGER, PRIMARY KEY(blob, pack)) WITHOUT ROWID;
CREATE TABLE names(name INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE tensors(segment INTEGER PRIMARY KEY, size INTEGER, words INTEGER, name INTEGER, pack INTEGER,
  dtype INTEGER, sample BLOB);
CREATE INDEX kin ON tensors(size, words, name, pack);
"""


class Outdated(Exception):
    """The index is of another schema."""


class Rows:
    """The tables; safe for several threads, and for several processes where they lie in a file.

    Args:
        file: where; None: in memory.
        writable: whether it may be made and written.
        scratch: it is made in one go and not seen by anybody before: nothing need be durable.

    Raises:
        sqlite3.Error: it cannot be opened.
        Outdated: it is of another schema.
    """

    def __init__(self, file: Path | None, *, writable: bool = True, scratch: bool = False) -> None:
        self.in_memory = file is None
        self._lock = RLock()
        place = ":memory:" if file is None else f"{file.absolute().as_uri()}?mode={'rwc' if writable else 'ro'}"
        self._rows = sqlite3.connect(place, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            if writable:
                # A journal that stays: one that comes and goes would change the folder's time, which tells of packs.
                self.run(f"PRAGMA journal_mode = {'OFF' if scratch else 'PERSIST'}")
                self.run(f"PRAGMA synchronous = {'OFF' if scratch else 'FULL'}")
            self.run("PRAGMA cache_size = -16384")
            self._prepare(writable=writable)
        except BaseException:
            self._rows.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._rows.close()

    def copy_into(self, other: Rows) -> None:
        """Put all of this into the place of what the other one holds, in one transaction of it."""
        with self._lock, other._lock:
            self._rows.backup(other._rows)

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction: all of it counts or nothing; other writers wait."""
        with self._lock:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                if self._rows.in_transaction:
                    self._rows.rollback()
                raise

    @contextmanager
    def look(self) -> Iterator[None]:
        """Whatever is asked until the end is answered from one state: who changes it meanwhile waits to be done."""
        with self._lock:
            if self._rows.in_transaction:  # it is being changed here
                yield
                return
            self.run("BEGIN")
            try:
                yield
            finally:
                self._rows.rollback()

    def all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock:
            return self._rows.execute(statement, values).fetchall()

    def run(self, statement: str, *values: object) -> int:
        """Run a statement; how many rows it changed."""
        with self._lock:
            return self._rows.execute(statement, values).rowcount

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement for each row."""
        with self._lock:
            self._rows.executemany(statement, rows)

    def free(self, table: Table, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Of these digests, those whose own numbers are free, and wanted by no other of them: all new."""
        wanted: dict[int, bytes] = {}
        twice = set()
        for digest in digests:
            key = int.from_bytes(digest[:8], "big", signed=True)
            if wanted.setdefault(key, digest) != digest:
                twice.add(key)
        for keys in batched(list(wanted), 1000):
            marks = ", ".join("?" * len(keys))
            rows = self.all(f"SELECT key FROM {table} WHERE key IN ({marks})", *keys)  # noqa: S608 - one of two names
            twice.update(row[0] for row in rows)
        return {digest: key for key, digest in wanted.items() if key not in twice}

    def key(self, table: Table, digest: bytes) -> int | None:
        """The number of a digest's row; None when there is none."""
        key, found = self.slot(table, digest)
        return key if found else None

    def slot(self, table: Table, digest: bytes) -> tuple[int, bool]:
        """The number of a digest's row, or of the place where it belongs, and whether it is there."""
        first = key = int.from_bytes(digest[:8], "big", signed=True)
        while rows := self.all(f"SELECT rest FROM {table} WHERE key = ?", key):  # noqa: S608 - one of two names
            if rows[0][0] == (digest[8:] if key == first else digest):
                return key, True
            key = _next(key)
        return key, False

    def is_passed(self, table: Table, key: int) -> bool:
        """Whether a row must not be removed, only emptied: one behind it may be found through it."""
        while rows := self.all(f"SELECT length(rest) FROM {table} WHERE key = ?", key := _next(key)):  # noqa: S608
            if rows[0][0] in (32, 64):
                return True
        return False

    def name(self, text: str) -> int:
        """The number of a text that occurs often; it is taken in when it is new."""
        self.run("INSERT OR IGNORE INTO names(text) VALUES (?)", text)
        number: int = self.all("SELECT name FROM names WHERE text = ?", text)[0][0]
        return number

    def _prepare(self, *, writable: bool) -> None:
        version = self.all("PRAGMA user_version")[0][0]
        if version == SCHEMA:
            return
        if version or not writable:
            raise Outdated
        with self.change():
            if self.all("PRAGMA user_version")[0][0] == 0:
                for statement in _TABLES.split(";"):
                    self.run(statement)
                self.run(f"PRAGMA user_version = {SCHEMA}")


def _next(key: int) -> int:
    """The number after this one, the lowest after the highest."""
    return key + 1 if key < (1 << 63) - 1 else -(1 << 63)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many items at a time."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def raw_digest(digest: Digest) -> bytes:
    """The bytes of a blob's digest."""
    return bytes.fromhex(digest.hex)


def whole(key: int, rest: bytes) -> bytes:
    """A digest from its row."""
    return rest if len(rest) in (32, 64) else key.to_bytes(8, "big", signed=True) + rest


def blob_digest(key: int, rest: bytes) -> Digest:
    """A blob's digest from its row."""
    found = whole(key, rest)
    return Digest("sha256" if len(found) == 32 else "sha512", found.hex())


def words_number(words: Words) -> int:
    """Words as a number."""
    return words.width | words.rotate << 4 | words.text << 5


def words_of(number: int) -> Words:
    """Words from their number."""
    return Words(number & 15, rotate=bool(number & 16), text=bool(number & 32))


def encode_parts(keys: Sequence[int], sizes: Sequence[int]) -> bytes:
    """What a blob is made of, as it is kept."""
    count = len(keys)
    return struct.pack(f"<{count}q", *keys) + (struct.pack(f"<{count}Q", *sizes) if count > 1 else b"")


def decode_parts(stored: bytes, size: int) -> tuple[Sequence[int], Sequence[int]]:
    """Numbers and sizes of a blob's segments; *size* is the blob's."""
    if len(stored) <= 8:
        return struct.unpack(f"<{len(stored) // 8}q", stored), [size] if stored else []
    count = len(stored) // 16
    return struct.unpack_from(f"<{count}q", stored), struct.unpack_from(f"<{count}Q", stored, 8 * count)
