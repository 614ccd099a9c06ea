"""The index of packs, and what changes it. Derived, and made again from packs when need be.

Nothing here knows of files: what changes the index was found out by the caller (``keeping``), within a ``change()``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from assay.blobs.packs.gone import Gone
from assay.blobs.packs.lookups import BlobRow, Lookups
from assay.blobs.packs.rows import (
    batched,
    decode_parts,
    encode_parts,
    raw_digest,
    whole,
    words_number,
)
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.segments import Segment
from assay.spec.digest import Digest

__all__ = ["BlobRow", "PackIndex"]

_PAGE = 1000


class PackIndex(Lookups):
    """The index, for those who change it as well."""

    def take_in_segments(
        self,
        name: str,
        size: int,
        directory: Directory,
        gone: Gone,
        is_right: Callable[[Segment], bool] = lambda _: True,
    ) -> None:
        """Take a pack in: its segments; its blobs come after the segments of every other pack that is new.

        Of a segment that several packs hold the least deep one counts, whatever the order in which packs are taken in:
        each was deeper than the base that it was written against, so no two are ever each other's base.

        Args:
            name: its name.
            size: its bytes.
            directory: what it holds.
            gone: what does not count of it any more.
            is_right: whether a segment of it gives its id; asked before it takes the place of one that is there: who
                did not compare the pack before does so then. A directory says what it likes.
        """
        self.run("INSERT OR IGNORE INTO packs(name, size) VALUES (?, ?)", name, size)
        pack, spare = self._number(name), 0
        counting = [segment for segment in directory.segments if segment.id not in gone.bad]
        new = self._put_new(counting, pack)
        for segment in counting:
            if segment.id in new or self._put_segment(segment, pack):
                continue
            found = self.segment(segment.id)
            if found is not None and segment.depth < found.segment.depth and is_right(segment):
                self.move(segment, name)
            else:
                spare += segment.stored
        for segment_id, hint in directory.hints.items():
            self._put_tensor(segment_id, hint, pack)
        self.run("UPDATE packs SET spare = ?, gone = ? WHERE pack = ?", spare, gone.length, pack)

    def take_in_blobs(
        self, name: str, directory: Directory, gone: Gone, added: int, times: Mapping[Digest, int] | None = None
    ) -> None:
        """Take in which blobs a pack lists.

        Args:
            name: its name.
            directory: what it holds.
            gone: what does not count of it any more.
            added: when they count as added, in nanoseconds.
            times: the same for single blobs.
        """
        pack, uses, rows, known_ones = self._number(name), Counter[int](), [], []
        known = self._places({part for blob in directory.blobs for part in blob.parts})
        counting = [blob for blob in directory.blobs if blob.digest not in gone.blobs]
        free = self.free("blobs", [raw_digest(blob.digest) for blob in counting])
        for blob in counting:
            digest, when = raw_digest(blob.digest), (times or {}).get(blob.digest, added)
            if digest not in free:
                known_ones.append((blob, when))
                continue
            places = [known.get(part) or (self._named(part), 0) for part in blob.parts]
            keys = [key for key, _ in places]
            uses.update(keys)
            parts = encode_parts(keys, [size for _, size in places])
            rows.append((free[digest], digest[8:], blob.size, pack, when, parts))
        self.many("INSERT INTO blobs(key, rest, size, pack, added, parts) VALUES (?, ?, ?, ?, ?, ?)", sorted(rows))
        counts = sorted((key, count) for key, count in uses.items())  # in the order in which they lie
        self.many("UPDATE segments SET uses = uses + ?2 WHERE key = ?1", counts)
        self.run("UPDATE packs SET blobs = blobs + ? WHERE pack = ?", len(rows), pack)
        for blob, when in known_ones:
            self._put_blob(blob, pack, when)

    def take_in_faulty(self, name: str, size: int, fault: str) -> None:
        """Take in that a pack is there, and why its directory cannot be read."""
        self.run("INSERT INTO packs(name, size, fault) VALUES (?, ?, ?)", name, size, fault)

    def took_gone(self, name: str, length: int) -> None:
        """So many bytes of a pack's ``.gone`` file are taken in."""
        self.run("UPDATE packs SET gone = ? WHERE name = ?", length, name)

    def renew(self, digest: Digest, added: int) -> int | None:
        """A blob counts as added then, or later; its size, or None when no pack holds it."""
        for key, size, before, _ in self._blob(digest):
            self.run("UPDATE blobs SET added = ? WHERE key = ?", max(before, added), key)
            return size
        return None

    def forget(self, digest: Digest) -> bool:
        """A blob is gone from every pack; whether it was there."""
        for key, size, _, parts in self._blob(digest):
            for segment, count in Counter(decode_parts(parts, size)[0]).items():
                self.run("UPDATE segments SET uses = uses - ? WHERE key = ?", count, segment)
            self.run(
                "UPDATE packs SET blobs = blobs - 1 WHERE pack = (SELECT pack FROM blobs WHERE key = ?) "
                "OR pack IN (SELECT pack FROM also WHERE blob = ?)",
                key,
                key,
            )
            self.run("DELETE FROM also WHERE blob = ?", key)
            if self.is_passed("blobs", key):
                self.run("UPDATE blobs SET size = NULL, pack = NULL, added = NULL, parts = NULL WHERE key = ?", key)
            else:
                self.run("DELETE FROM blobs WHERE key = ?", key)
            return True
        return False

    def unlist(self, digest: Digest, pack: str) -> None:
        """A pack does not list a blob any more; the blob is gone when no other does."""
        number = self._number(pack)
        for key, _, _, _ in self._blob(digest):
            others = self.all("SELECT pack FROM also WHERE blob = ? ORDER BY pack = ?", key, number)
            held = self.all("SELECT pack FROM blobs WHERE key = ?", key)[0][0]
            if held == number and not others:
                self.forget(digest)
            elif held == number or (number,) in others:
                if held == number:
                    self.run("UPDATE blobs SET pack = ? WHERE key = ?", others[0][0], key)
                gone = others[0][0] if held == number else number
                self.run("DELETE FROM also WHERE blob = ? AND pack = ?", key, gone)
                self.run("UPDATE packs SET blobs = blobs - 1 WHERE pack = ?", number)

    def move(self, segment: Segment, pack: str) -> None:
        """A segment is read from this pack from now on."""
        found = self.segment(segment.id)
        if found is not None and found.pack == pack:
            return
        if found is not None:
            self.lose(segment.id, found.pack, spare=True)
        self._put_segment(segment, self._number(pack))
        self.run("UPDATE packs SET spare = max(0, spare - ?) WHERE name = ?", segment.stored, pack)

    def lose(self, segment: bytes, pack: str, *, spare: bool = False) -> None:
        """A segment is not read from a pack any more.

        Args:
            segment: its id.
            pack: the pack's name.
            spare: its bytes stay there.
        """
        key, number = self.key("segments", segment), self._number(pack)
        for stored, uses in self.all("SELECT stored, uses FROM segments WHERE key = ? AND pack = ?", key, number):
            self.run(
                "UPDATE packs SET kept = kept - ?, spare = spare + ? WHERE pack = ?",
                *(stored, stored if spare else 0, number),
            )
            self.run("DELETE FROM tensors WHERE segment = ?", key)
            is_base = self.all("SELECT 1 FROM segments WHERE base = ? LIMIT 1", key)
            if uses or is_base or self.is_passed("segments", key or 0):
                self.run("UPDATE segments SET pack = NULL, base = NULL WHERE key = ?", key)
            else:
                self.run("DELETE FROM segments WHERE key = ?", key)

    def drop_pack(self, name: str) -> None:
        """A pack is not there any more; what is still said to lie in it lies nowhere."""
        row, number = self.pack(name), self._number(name)
        if row is not None and row.kept:
            for found in self.all("SELECT key, rest FROM segments WHERE pack = ?", number):
                self.lose(whole(*found), name)
        if row is not None and row.blobs:
            for digest in self.listed_by(name):
                self.unlist(digest, name)
        self.run("DELETE FROM packs WHERE pack = ?", number)

    def _named(self, segment: bytes) -> int:
        """The number of a segment, which need not lie anywhere."""
        key, found = self.slot("segments", segment)
        if not found:
            rest = segment if key != int.from_bytes(segment[:8], "big", signed=True) else segment[8:]
            self.run("INSERT INTO segments(key, rest, uses) VALUES (?, ?, 0)", key, rest)
        return key

    def _put_new(self, segments: Sequence[Segment], pack: int) -> set[bytes]:
        """Take segments in that were never heard of; which of them were."""
        free = self.free("segments", [segment.id for segment in segments])
        new = [segment for segment in segments if segment.id in free]
        self.many(
            "INSERT INTO segments(key, rest, pack, start, stored, size, words, depth, seal, uses) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            sorted(
                (
                    *(free[one.id], one.id[8:], pack, one.offset, one.stored, one.size),
                    *(words_number(one.words), one.depth, one.check),
                )
                for one in new
            ),
        )
        bases = [(self._named(one.base), free[one.id]) for one in new if one.base is not None]
        self.many("UPDATE segments SET base = ? WHERE key = ?", bases)
        self.run("UPDATE packs SET kept = kept + ? WHERE pack = ?", sum(one.stored for one in new), pack)
        return set(free)

    def _places(self, segments: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        """Numbers and sizes of segments that are known, except of those with a number that is not their own."""
        found = {}
        firsts = {int.from_bytes(segment[:8], "big", signed=True): segment for segment in segments}
        for keys in batched(firsts, _PAGE):
            for key, rest, size in self.all(
                f"SELECT key, rest, size FROM segments WHERE key IN ({', '.join('?' * len(keys))})",  # noqa: S608
                *keys,
            ):
                if rest == firsts[key][8:]:
                    found[firsts[key]] = key, size or 0
        return found

    def _put_segment(self, segment: Segment, pack: int) -> bool:
        """Whether the segment is read from this pack."""
        key = self._named(segment.id)
        held = self.all("SELECT pack FROM segments WHERE key = ?", key)[0][0]
        if held is None:
            base = None if segment.base is None else self._named(segment.base)
            self.run(
                "UPDATE segments SET pack = ?, start = ?, stored = ?, size = ?, words = ?, base = ?, depth = ?, "
                "seal = ? WHERE key = ?",
                *(pack, segment.offset, segment.stored, segment.size, words_number(segment.words)),
                *(base, segment.depth, segment.check, key),
            )
            self.run("UPDATE packs SET kept = kept + ? WHERE pack = ?", segment.stored, pack)
        return held in (None, pack)

    def _put_tensor(self, segment: bytes, hint: Hint, pack: int) -> None:
        key = self._named(segment)
        self.run(
            "INSERT OR IGNORE INTO tensors "
            "SELECT key, size, words, ?, ?, ?, ? FROM segments WHERE key = ? AND pack = ?",
            *(self.name(hint.name), pack, self.name(hint.dtype), hint.sample, key, pack),
        )

    def _put_blob(self, blob: PackedBlob, pack: int, added: int) -> None:
        digest = raw_digest(blob.digest)
        key, found = self.slot("blobs", digest)
        if found:
            held, before = self.all("SELECT pack, added FROM blobs WHERE key = ?", key)[0]
            if held is not None:
                self.run("UPDATE blobs SET added = ? WHERE key = ?", max(before, added), key)
                if held != pack and self.run("INSERT OR IGNORE INTO also(blob, pack) VALUES (?, ?)", key, pack):
                    self.run("UPDATE packs SET blobs = blobs + 1 WHERE pack = ?", pack)
                return
        keys = [self._named(part) for part in blob.parts]
        sizes = [self.all("SELECT size FROM segments WHERE key = ?", part)[0][0] or 0 for part in keys]
        for segment, count in Counter(keys).items():
            self.run("UPDATE segments SET uses = uses + ? WHERE key = ?", count, segment)
        rest = digest if key != int.from_bytes(digest[:8], "big", signed=True) else digest[8:]
        self.run(
            "INSERT OR REPLACE INTO blobs(key, rest, size, pack, added, parts) VALUES (?, ?, ?, ?, ?, ?)",
            *(key, rest, blob.size, pack, added, encode_parts(keys, sizes)),
        )
        self.run("UPDATE packs SET blobs = blobs + 1 WHERE pack = ?", pack)
