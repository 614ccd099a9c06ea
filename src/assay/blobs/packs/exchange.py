"""Packed blobs from store to store: the segments that the other side lacks, as a pack that lists the blobs.

What is handed over is put together while it is read: stored bytes from whatever packs they lie in here, in an order in
which bases come first and neighbours stay together, then a directory. What is taken in is a pack like any other, that
somebody else wrote: nothing of it is believed before checksums agree, and each segment, listed by a blob or not, and
each blob, decoded from it and from what is here, gives its id.

Not here: where packs are (``folder``, ``assay.blobs.bucket.packs``), and what keeps a sweep from what was taken in just
now (``Landing``).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from itertools import accumulate
from time import time_ns
from typing import Protocol

from assay.blobs.directory import DirectoryStore
from assay.blobs.packs.checking import read_back
from assay.blobs.packs.comparing import AT_ONCE, compare
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.stock import Stockroom
from assay.blobs.staging import READ_ONLY, Staged, Staging
from assay.errors import AssayError, BadFormat, IntegrityError, NotFound, StorageError
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


class Landing(Protocol):
    """What differs between the places where packs are taken in."""

    @property
    def staging(self) -> Staging:
        """Where a pack is brought before it is compared."""
        ...

    def appearing(self, blobs: Sequence[Digest]) -> AbstractContextManager[int]:
        """Nobody sweeps meanwhile; gives when *blobs*, which appear meanwhile, count as added, in nanoseconds.

        From its end on whoever holds the store has them spared.
        """
        ...

    def opened(self, staged: Staged) -> Source:
        """A pack that was brought, to be compared: whether it is a file tells the decoder how far away bases are."""
        ...

    def show(self, staged: Staged, name: str) -> None:
        """Let a pack that was compared appear, durably; within a change of the index."""
        ...


class FolderLanding:
    """Packs are taken in to a folder: the gate keeps sweeps away, and holds reach back.

    Args:
        raw: the store's raw side, which knows who is writing.
        folder: its packs.
    """

    def __init__(self, raw: DirectoryStore, folder: PackFolder) -> None:
        self._raw, self._folder = raw, folder
        self.staging = raw.staging

    @contextmanager
    def appearing(self, blobs: Sequence[Digest]) -> Iterator[int]:  # noqa: ARG002 - the index says when
        """Nobody sweeps meanwhile; what appears counts as added now."""
        with self._raw.gate.shared():
            now = time_ns()
            yield now
            self._raw.own.reach_back_to(now)

    def opened(self, staged: Staged) -> Source:
        """The file."""
        return FileSource(staged.path)

    def show(self, staged: Staged, name: str) -> None:
        """Rename it to its place."""
        self._folder.appear(staged.path, name, ())
        os.fchmod(staged.descriptor, READ_ONLY & os.fstat(staged.descriptor).st_mode)


class Exchange:
    """Handing over and taking in (``assay.ports.exchange``), wherever packs lie.

    Args:
        folder: the packs.
        landing: where those that come go first.
    """

    def __init__(self, folder: PackFolder, landing: Landing) -> None:
        self._folder, self._landing = folder, landing
        self._stock = Stockroom(folder.index.read, folder.open_pack, folder.index.refresh)

    def parts(self, digest: Digest) -> list[Part] | None:
        """Every segment that a blob needs, bases included."""
        self._folder.index.catch_up()
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
        self._folder.index.refresh()
        packs = {segment.id: (segment, pack) for segment, pack in (self._held(one) for one in segments)}
        places = self._folder.index.read(lambda index: _places(index, packs))
        held = sorted(  # neighbours in a pack stay neighbours: they are read at once
            directory.fitted(segment for segment, _ in packs.values()),
            key=lambda one: (one.depth, places.get(one.id, ""), one.offset),
        )
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
                staged = opened.enter_context(self._landing.staging.part(name))
                if staged is None:  # another process takes in the same one
                    staged = opened.enter_context(self._landing.staging.new())
                bring(pack, staged.descriptor, have=os.fstat(staged.descriptor).st_size, progress=progress)
                with self._folder.packing():
                    try:
                        held = self._checked(self._landing.opened(staged), name)
                    except StorageError:
                        raise
                    except AssayError:
                        os.ftruncate(staged.descriptor, 0)
                        raise
                    self._commit(staged, name, pack.size, held)
        except OSError as error:
            raise StorageError.of(error, f"cannot keep a pack in {self._folder.folder}") from error

    def _checked(self, pack: Source, name: str) -> Directory:
        """What a pack lists, each of its segments and blobs decoded and compared with its id.

        Packs that are here rely on segments by their ids: one that nothing in this pack needs, and a base of what is
        stored plain all the same, are as good as any other once the pack is here.
        """
        held = read_back(pack, name)
        self._check_bases(held)
        decoder = Decoder(_Both(held, pack, self._stock))
        sizes = {segment.id: segment.size for segment in held.segments}
        for blob in held.blobs:
            self._check_blob(blob, sizes, decoder)
        done = {part for blob in held.blobs for part in blob.parts}  # these were decoded with their blobs
        compare(decoder, [segment for segment in held.segments if segment.id not in done])
        return held

    def _check_bases(self, held: Directory) -> None:
        """Refuse bases that are neither in the pack nor here, and those here that are not less deep.

        So no segment is ever its own base, and a chain of bases has at most as many as its highest depth says,
        whichever copies of them are read (``PackIndex.take_in_segments``).
        """
        own = {segment.id for segment in held.segments}
        for segment in held.segments:
            if segment.base is None or segment.base in own:
                continue
            try:
                base, _ = self._held(segment.base)
            except NotFound as error:
                raise _missing(f"segment {segment.id.hex()[:12]}") from error
            if base.size != segment.size or base.depth >= segment.depth:
                raise BadFormat(
                    f"segment {segment.id.hex()[:12]} of the pack that was handed over has {segment.size} bytes at "
                    f"depth {segment.depth}, its base here {base.size} at depth {base.depth}"
                )

    def _check_blob(self, blob: PackedBlob, sizes: Mapping[bytes, int], decoder: Decoder) -> None:
        try:
            parts = [(one, sizes.get(one) or self._held(one)[0].size) for one in blob.parts]
        except NotFound as error:
            raise _missing(f"blob {blob.digest.short}", digest=str(blob.digest)) from error
        packed = PackedSource(decoder, parts)
        if digest_source(packed, algorithm=blob.digest.algorithm, step=AT_ONCE) != blob.digest:
            raise IntegrityError(
                f"blob {blob.digest.short} does not match its digest in the pack that was handed over",
                digest=str(blob.digest),
            )

    def _commit(self, staged: Staged, name: str, size: int, held: Directory) -> None:
        with self._landing.appearing([blob.digest for blob in held.blobs]) as now:

            def commit(index: PackIndex) -> None:
                if staged.path.exists():  # else this runs a second time
                    self._landing.show(staged, name)
                took = self._folder.gone(name)
                index.take_in_segments(name, size, held, took)
                index.take_in_blobs(name, held, took, now)

            self._folder.index.write(commit)

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


def _missing(what: str, **details: str) -> IntegrityError:
    return IntegrityError(
        f"what {what} relies on in the pack that was handed over is not here", code="segment-missing", **details
    )


def _places(index: PackIndex, segments: Collection[bytes]) -> dict[bytes, str]:
    """The packs that segments are read from."""
    return {one: found.pack for one in segments if (found := index.segment(one)) is not None}


class Joined:
    """Stretches of several sources, one after the other; what lies together is read together.

    Args:
        pieces: source, offset and length of each.
    """

    def __init__(self, pieces: Sequence[tuple[Source, int, int]]) -> None:
        self._pieces = list[tuple[Source, int, int]]()
        for source, offset, length in pieces:
            before = self._pieces[-1] if self._pieces else None
            if before is not None and before[0] is source and before[1] + before[2] == offset:
                self._pieces[-1] = source, before[1], before[2] + length
            else:
                self._pieces.append((source, offset, length))
        self._ends = list(accumulate(length for _, _, length in self._pieces))

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
