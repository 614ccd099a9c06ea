"""What the index of packs answers: what a blob is made of, where that lies, which tensors there are.

References of segments (eight bytes) serve where ids do, as long as the index is not made again; ids always do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.blobs.packs.adding import LARGE
from assay.blobs.packs.rows import (
    Rows,
    batched,
    blob_digest,
    decode_parts,
    raw_digest,
    whole,
    words_number,
    words_of,
)
from assay.packing.codec import Words
from assay.packing.directory import MAX_BASES, Hint
from assay.packing.segments import Segment
from assay.spec.digest import Digest

_PAGE = 1000
_PACKS = "SELECT name, size, blobs, kept, spare, gone, fault FROM packs"
_BLOB = "SELECT key, size, added, parts, rest FROM blobs WHERE key = ?"
_BLOBS = _BLOB.replace("key = ?", "key IN ({})")
_OF_SIZE = f"SELECT key, rest FROM blobs WHERE size = ? AND size >= {LARGE}"  # noqa: S608 - a number of ours
_SEGMENT = (
    "SELECT s.key, s.rest, s.size, s.words, b.key, b.rest, s.depth, s.start, s.stored, s.seal, p.name, s.uses "
    "FROM segments s JOIN packs p ON p.pack = s.pack LEFT JOIN segments b ON b.key = s.base WHERE s.key = ?"
)
_SEGMENTS = _SEGMENT.replace("s.key = ?", "s.key IN ({})")
_TENSORS = (
    "SELECT t.segment, s.rest, n.text, d.text, t.sample, s.depth, t.size, t.words FROM tensors t "
    "JOIN segments s ON s.key = t.segment JOIN names n ON n.name = t.name JOIN names d ON d.name = t.dtype "
    "WHERE s.pack IS NOT NULL AND "
)
_KIN = _TENSORS + (  # noqa: S608 - constants
    "t.size = ? AND t.words = ? AND t.name = (SELECT name FROM names WHERE text = ?) ORDER BY t.pack DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack as the index knows it.

    Args:
        name: its name.
        size: bytes.
        blobs: how many blobs it lists that count.
        kept: bytes of segments that are read from it.
        spare: bytes of segments in it that are read from another pack.
        gone: bytes of its ``.gone`` file that were taken in.
        fault: why its directory cannot be read; empty where it can.
    """

    name: str
    size: int
    blobs: int
    kept: int
    spare: int
    gone: int
    fault: str


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A packed blob: its bytes, and when it was last added, in nanoseconds."""

    digest: Digest
    size: int
    added: int


@dataclass(frozen=True, slots=True)
class Found:
    """A segment, the pack that it is read from, and how often blobs are made of it."""

    segment: Segment
    pack: str
    uses: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A segment that is a tensor.

    Args:
        id: its id.
        hint: what tells how close it is to another one.
        depth: how many segments must be decoded before it.
        size: bytes.
        words: what they are made of.
    """

    id: bytes
    hint: Hint
    depth: int
    size: int
    words: Words


class Lookups(Rows):
    """The index, for those who ask."""

    def packs(self) -> dict[str, PackRow]:
        """Every pack, by name."""
        return {row[0]: PackRow(*row) for row in self.all(_PACKS)}

    def pack(self, name: str) -> PackRow | None:
        """One pack; None when it is not known."""
        for row in self.all(f"{_PACKS} WHERE name = ?", name):
            return PackRow(*row)
        return None

    def blob(self, digest: Digest) -> BlobRow | None:
        """A blob; None when no pack holds it."""
        for _, size, added, _ in self._blob(digest):
            return BlobRow(digest, size, added)
        return None

    def among(self, digests: Iterable[Digest]) -> dict[Digest, BlobRow]:
        """Those of many blobs that packs hold."""
        found: dict[Digest, BlobRow] = {}
        wanted: dict[int, Digest] = {}
        crowded = [one for one in digests if wanted.setdefault(_number(one), one) != one]
        for keys in batched(wanted, _PAGE):
            for key, size, added, _, rest in self.all(_BLOBS.format(", ".join("?" * len(keys))), *keys):
                if whole(key, rest) != raw_digest(wanted[key]):
                    crowded.append(wanted[key])
                elif size is not None:
                    found[wanted[key]] = BlobRow(wanted[key], size, added)
        return found | {one: row for one in crowded if (row := self.blob(one)) is not None}

    def parts(self, digest: Digest) -> Sequence[tuple[bytes, int]] | None:
        """References and sizes of the segments that a blob is made of; None when no pack holds it."""
        for _, size, _, parts in self._blob(digest):
            keys, sizes = decode_parts(parts, size)
            if sum(sizes) != size:  # a pack was missing when it was taken in
                found = (self.all("SELECT size FROM segments WHERE key = ?", key) for key in keys)
                sizes = [(rows[0][0] if rows else None) or 0 for rows in found]
            return [(key.to_bytes(8, "big", signed=True), size) for key, size in zip(keys, sizes, strict=True)]
        return None

    def page(self, after: int | None) -> tuple[list[BlobRow], int | None]:
        """Some blobs, and where the next page begins; None: there is none.

        Args:
            after: where to begin, as the page before said; None: the first page.
        """
        if after is None:
            rows = self.all("SELECT key, rest, size, added FROM blobs ORDER BY key LIMIT ?", _PAGE)
        else:
            rows = self.all("SELECT key, rest, size, added FROM blobs WHERE key > ? ORDER BY key LIMIT ?", after, _PAGE)
        found = [BlobRow(blob_digest(row[0], row[1]), row[2], row[3]) for row in rows if row[2] is not None]
        return found, rows[-1][0] if rows else None

    def blobs(self) -> Iterator[BlobRow]:
        """Every blob, a page at a time."""
        rows, after = self.page(None)
        while after is not None:
            yield from rows
            rows, after = self.page(after)

    def of_size(self, size: int) -> list[Digest]:
        """Blobs of this size; none where it is less than ``LARGE``."""
        rows = self.all(_OF_SIZE, size)
        return [blob_digest(*row) for row in rows]

    def segment(self, reference: bytes) -> Found | None:
        """A segment by its id or a reference; None when no pack holds it."""
        rows = self.all(_SEGMENT, int.from_bytes(reference[:8], "big", signed=True))
        if len(reference) > 8 and (not rows or rows[0][1] != reference[8:]):  # it has no place, or another number
            rows = self.all(_SEGMENT, self.key("segments", reference))
        return _found(rows[0]) if rows else None

    def segments(self, references: Sequence[bytes]) -> dict[bytes, Found]:
        """Several segments at once, by reference; those that lie nowhere are left out."""
        found = {}
        for some in batched(references, _PAGE):
            keys = [int.from_bytes(reference, "big", signed=True) for reference in some]
            for row in self.all(_SEGMENTS.format(", ".join("?" * len(keys))), *keys):
                found[row[0].to_bytes(8, "big", signed=True)] = _found(row)
        return found

    def leaning(self, segment: bytes) -> list[bytes]:
        """Ids of the segments that are stored as the difference to this one."""
        key = self.key("segments", segment)
        return [whole(*row) for row in self.all("SELECT key, rest FROM segments WHERE base = ? AND pack > 0", key)]

    def hint(self, segment: bytes) -> Hint | None:
        """What helps to find bases for a tensor; None where a segment is none."""
        for row in self.all(f"{_TENSORS} t.segment = ?", self.key("segments", segment)):
            return _tensor(row).hint
        return None

    def unused(self) -> list[tuple[bytes, int, str]]:
        """Segments that no blob is made of: id, bytes stored, and pack."""
        rows = self.all(
            "SELECT s.key, s.rest, s.stored, p.name FROM segments s JOIN packs p ON p.pack = s.pack WHERE s.uses = 0"
        )
        return [(whole(key, rest), stored, name) for key, rest, stored, name in rows]

    def totals(self) -> tuple[int, int]:
        """How many blobs there are, and their bytes."""
        count, size = self.all("SELECT count(size), coalesce(sum(size), 0) FROM blobs")[0]
        return count, size

    def is_whole(self, segment: bytes) -> bool:
        """Whether a segment and all its bases lie in packs."""
        wanted: bytes | None = segment
        for _ in range(MAX_BASES + 1):
            found = None if wanted is None else self.segment(wanted)
            if found is None:
                return wanted is None
            wanted = found.segment.base
        return wanted is None

    def is_complete(self, digest: Digest) -> bool:
        """Whether a blob is packed, and all that it is made of lies in packs."""
        parts = self.parts(digest)
        return parts is not None and all(self.is_whole(part) for part in dict(parts))

    def broken(self) -> set[bytes]:
        """Ids of segments that blobs are made of and that lie nowhere, or are differences to what lies nowhere."""
        new = self.lost()
        found = set(new)
        while new:
            for leaning in self.leaning(new.pop()):
                held = self.segment(leaning)
                if held is not None and leaning not in found:
                    found.add(leaning)
                    new.append(leaning)
        return {one for one in found if self._uses(one)}

    def lost(self) -> list[bytes]:
        """Ids of segments that blobs are made of, or that are bases, and that lie nowhere."""
        rows = self.all(
            "SELECT key, rest FROM segments s WHERE pack IS NULL AND (uses > 0 OR EXISTS "
            "(SELECT 1 FROM segments d WHERE d.base = s.key AND d.pack IS NOT NULL))"
        )
        return [whole(*row) for row in rows]

    def holders(self, segments: Iterable[bytes]) -> list[Digest]:
        """Blobs that are made of any of these segments; looks at every blob."""
        keys, found = {self.key("segments", segment) for segment in segments}, []
        for row in self.blobs():
            for _, size, _, parts in self._blob(row.digest):
                if not keys.isdisjoint(decode_parts(parts, size)[0]):
                    found.append(row.digest)
        return found

    def kin(self, size: int, words: Words, name: str, limit: int) -> list[Tensor]:
        """Tensors of a size, of these words and of a name, the latest first."""
        rows = self.all(_KIN, size, words_number(words), name, limit)
        return [_tensor(row) for row in rows]

    def strangers(self, size: int, words: Words, limit: int) -> list[Tensor]:
        """Some tensors of a size and of these words, whatever their names."""
        rows = self.all(f"{_TENSORS} t.size = ? AND t.words = ? LIMIT ?", size, words_number(words), limit)
        return [_tensor(row) for row in rows]

    def tensors(self, digest: Digest) -> list[Tensor]:
        """A blob's tensors."""
        return [
            _tensor(row)
            for _, size, _, parts in self._blob(digest)
            for key in decode_parts(parts, size)[0]
            for row in self.all(f"{_TENSORS} t.segment = ?", key)
        ]

    def listed_by(self, pack: str) -> list[Digest]:
        """Blobs that a pack lists; looks at every blob."""
        rows = self.all(
            "SELECT key, rest FROM blobs WHERE pack = ? OR key IN (SELECT blob FROM also WHERE pack = ?)",
            *(self._number(pack), self._number(pack)),
        )
        return [blob_digest(*row) for row in rows]

    def listing(self, digest: Digest) -> list[str]:
        """Names of the packs whose directories list a blob."""
        return [
            row[0]
            for key, _, _, _ in self._blob(digest)
            for row in self.all(
                "SELECT p.name FROM packs p WHERE p.pack = (SELECT pack FROM blobs WHERE key = ?) "
                "OR p.pack IN (SELECT pack FROM also WHERE blob = ?)",
                key,
                key,
            )
        ]

    def _blob(self, digest: Digest) -> list[tuple[int, int, int, bytes]]:
        raw = raw_digest(digest)
        rows = self.all(_BLOB, int.from_bytes(raw[:8], "big", signed=True))
        if rows and rows[0][4] != raw[8:]:  # another one has the number of this one
            key = self.key("blobs", raw)
            rows = [] if key is None else self.all(_BLOB, key)
        return [row[:4] for row in rows if row[1] is not None]

    def _uses(self, segment: bytes) -> int:
        rows = self.all("SELECT uses FROM segments WHERE key = ?", self.key("segments", segment))
        return rows[0][0] if rows else 0

    def _number(self, pack: str) -> int:
        """A pack's number; one that no pack has when it is not known."""
        rows = self.all("SELECT pack FROM packs WHERE name = ?", pack)
        return rows[0][0] if rows else -1


def _number(digest: Digest) -> int:
    return int.from_bytes(raw_digest(digest)[:8], "big", signed=True)


def _found(row: tuple[Any, ...]) -> Found:
    base = None if row[4] is None else whole(row[4], row[5])
    segment = Segment(whole(row[0], row[1]), row[2], words_of(row[3]), base, row[6], row[7], row[8], row[9])
    return Found(segment, row[10], row[11])


def _tensor(row: tuple[Any, ...]) -> Tensor:
    key, rest, name, dtype, sample, depth, size, words = row
    return Tensor(whole(key, rest), Hint(name, dtype, sample), depth, size, words_of(words))
