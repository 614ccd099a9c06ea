"""Packed blobs from store to store: the segments that the other side lacks, as a pack that lists the blobs.

What is handed over is put together while it is read: stored bytes from whatever packs they lie in here, in an order in
which bases come first, then a directory. What is taken in is a pack like any other, that somebody else wrote: nothing
of it is believed before checksums, and the digest of each blob decoded from it and from what is here, agree.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from time import time_ns

from assay.blobs.directory import DirectoryStore
from assay.blobs.packs.checking import read_back
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.stock import Stockroom
from assay.blobs.staging import READ_ONLY, Staged
from assay.errors import IntegrityError, NotFound, StorageError
from assay.packing import directory
from assay.packing.directory import FOOTER, MAGIC, Directory, PackedBlob, read_footer
from assay.packing.reading import Decoder, PackedSource, Shelf
from assay.packing.segments import Segment
from assay.ports.exchange import Part
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.bringing import bring
from assay.streams.copying import digest_source
from assay.trees import Source, read_into
from assay.trees.window import FileSource, MemorySource


class Exchange:
    """Handing over and taking in (``assay.ports.exchange``).

    Args:
        raw: the store's raw side, which knows who is writing.
        folder: its packs.
    """

    def __init__(self, raw: DirectoryStore, folder: PackFolder) -> None:
        self._raw, self._folder = raw, folder
        self._stock = Stockroom(folder.index.read, folder.open_pack)

    def parts(self, digest: Digest) -> list[Part] | None:
        """Every segment that a blob needs, bases included."""
        listed = self._folder.index.read(lambda index: index.parts(digest))
        if listed is None:
            return None
        found: dict[bytes, Part] = {}
        for reference, _ in listed:
            wanted: bytes | None = reference
            while wanted is not None and wanted not in found:
                held = self._stock.find(wanted)
                if held is None:
                    return None
                wanted = held[0].base
                if held[0].id in found:
                    break
                found[held[0].id] = Part(held[0].id, held[0].stored)
        return list(found.values())

    def lacking(self, segments: Collection[bytes]) -> set[bytes]:
        """Those of some segments that are not here."""
        self._folder.index.refresh()
        return {one for one in segments if self._stock.find(one) is None}

    def hand_over(self, blobs: Sequence[Digest], segments: Collection[bytes]) -> Source:
        """A pack that lists *blobs* and holds *segments*.

        Raises:
            NotFound: one of them is not here any more.
        """
        packs = {segment.id: (segment, pack) for segment, pack in (self._held(one) for one in segments)}
        held = sorted(directory.fitted(segment for segment, _ in packs.values()), key=lambda one: (one.depth, one.id))
        pieces: list[tuple[Source, int, int]] = [(MemorySource(MAGIC), 0, len(MAGIC))]
        listed, at = [], len(MAGIC)
        for segment in held:
            pieces.append((packs[segment.id][1], segment.offset, segment.stored))
            listed.append(replace(segment, offset=at))
            at += segment.stored
        ids = [one.id for one in listed]
        told = self._folder.index.read(lambda index: [index.hint(one) for one in ids])
        hints = {one: hint for one, hint in zip(ids, told, strict=True) if hint is not None}
        stored = directory.encode(Directory(tuple(listed), tuple(self._blob(one) for one in blobs), hints))
        end = stored + directory.footer(at, stored)
        pieces.append((MemorySource(end), 0, len(end)))
        return Joined(pieces)

    def take_in(self, pack: Source, *, progress: Progress = SILENT) -> None:
        """Keep a pack that another store hands over.

        Raises:
            IntegrityError: it is damaged, or what it relies on is; nothing of it is kept.
            BadFormat: it is no pack.
            StorageError: it cannot be read or written.
        """
        tail = pack.read(max(0, pack.size - FOOTER.size), FOOTER.size)
        name = read_footer(tail, pack.size)[2].hex()
        try:
            with ExitStack() as opened:
                staged = opened.enter_context(self._raw.staging.part(name))
                if staged is None:  # another process takes in the same one
                    staged = opened.enter_context(self._raw.staging.new(mode=READ_ONLY))
                bring(pack, staged.descriptor, have=os.fstat(staged.descriptor).st_size, progress=progress)
                with self._folder.packing():
                    try:
                        held = read_back(FileSource(staged.path), name)
                        self._check(held, FileSource(staged.path))
                    except (IntegrityError, NotFound):
                        os.ftruncate(staged.descriptor, 0)
                        raise
                    os.fchmod(staged.descriptor, READ_ONLY & os.fstat(staged.descriptor).st_mode)
                    self._commit(staged, name, pack.size, held)
        except OSError as error:
            raise StorageError.of(error, f"cannot keep a pack in {self._folder.folder}") from error

    def _check(self, held: Directory, pack: Source) -> None:
        """Decode every blob, and compare it with its digest."""
        decoder = Decoder(_Both(held, pack, self._stock))
        sizes = {segment.id: segment.size for segment in held.segments}
        for blob in held.blobs:
            parts = []
            for one in blob.parts:
                size = sizes.get(one)
                parts.append((one, self._held(one)[0].size if size is None else size))
            if digest_source(PackedSource(decoder, parts), algorithm=blob.digest.algorithm) != blob.digest:
                raise IntegrityError(
                    f"blob {blob.digest.short} does not match its digest in the pack that was handed over",
                    digest=str(blob.digest),
                )

    def _commit(self, staged: Staged, name: str, size: int, held: Directory) -> None:
        with self._raw.gate.shared():
            now = time_ns()

            def commit(index: PackIndex) -> None:
                if staged.path.exists():  # else this runs a second time
                    self._folder.appear(staged.path, name, ())
                took = self._folder.gone(name)
                index.take_in_segments(name, size, held, took)
                index.take_in_blobs(name, held, took, now)

            self._folder.index.write(commit)
            self._raw.own.reach_back_to(now)

    def _held(self, segment: bytes) -> tuple[Segment, Source]:
        found = self._stock.find(segment)
        if found is None:
            raise NotFound(f"segment {segment.hex()[:12]} is in no pack here", code="segment-missing")
        return found

    def _blob(self, digest: Digest) -> PackedBlob:
        listed = self._folder.index.read(lambda index: index.parts(digest))
        if listed is None:
            raise NotFound(f"no such packed blob: {digest}", code="blob-missing", digest=str(digest))
        return PackedBlob(
            digest, sum(size for _, size in listed), tuple(self._held(reference)[0].id for reference, _ in listed)
        )


class Joined:
    """Stretches of several sources, one after the other.

    Args:
        pieces: source, offset and length of each.
    """

    def __init__(self, pieces: Sequence[tuple[Source, int, int]]) -> None:
        self._pieces = pieces
        self._ends = list(accumulate(length for _, _, length in pieces))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ends[-1] if self._ends else 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        into = bytearray(max(0, min(length, self.size - offset)))
        return bytes(into[: self.read_into(offset, memoryview(into))])

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; how many were written."""
        done, wanted = 0, max(0, min(len(into), self.size - offset))
        while done < wanted:
            number = bisect_right(self._ends, offset + done)
            source, start, length = self._pieces[number]
            within = offset + done - (self._ends[number] - length)
            count = min(length - within, wanted - done)
            read = read_into(source, start + within, into[done : done + count])
            if read < count:
                raise StorageError("a pack ended early while it was handed over", code="place-unreachable")
            done += count
        return done


class _Both:
    """Segments of a pack that is being taken in, and those that are here."""

    def __init__(self, held: Directory, pack: Source, stock: Shelf) -> None:
        self._new = {segment.id: segment for segment in held.segments}
        self._pack, self._stock = pack, stock

    def find(self, segment: bytes) -> tuple[Segment, Source] | None:
        """A segment, and the pack that holds it."""
        found = self._new.get(segment)
        return (found, self._pack) if found is not None else self._stock.find(segment)
