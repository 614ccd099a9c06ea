"""Packing: raw blobs into new packs, and their raw copies away once that is safe.

Order, so that a blob is readable from one place or the other whenever the process dies: write in ``staging/``, flush,
read back and compare, rename into ``packs/``, flush the folder, commit the index, then remove raw copies alone with the
store. Whatever the new pack relies on in older ones is decoded and compared with its id as well before a raw copy goes:
their checksums say only that they are as somebody wrote them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from assay.blobs.directory import DirectoryStore
from assay.blobs.packs.checking import Sound, read_back
from assay.blobs.packs.comparing import find_wrong
from assay.blobs.packs.damage import discard_blob, discard_segments
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.sources import BriefSource
from assay.blobs.packs.stock import Stockroom
from assay.blobs.staging import READ_ONLY
from assay.errors import AssayError, IntegrityError, StorageError
from assay.packing.reading import Decoder, PackedSource
from assay.packing.segments import Segment
from assay.packing.writing import Written, write_pack
from assay.ports.packs import Effort, PackedBlobs, ToPack
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.streams.copying import digest_source
from assay.trees import Source
from assay.trees.window import FileSource

PACK = 1 << 30
"""Bytes from which on a pack is closed; one blob is never split."""
_TRIES = 5
BATCH = 200
"""Raw copies removed at a time, for which pushes wait."""


@dataclass(slots=True)
class _Outcome:
    packed: set[Digest] = field(default_factory=set)
    spared: set[Digest] = field(default_factory=set)
    damaged: set[Digest] = field(default_factory=set)
    raw: int = 0
    stored: int = 0
    same: int = 0
    differing: int = 0


class Packer:
    """Packs raw blobs of a store.

    Args:
        raw: where they lie raw.
        folder: where packs go.
        size: bytes from which on a pack is closed.
    """

    def __init__(self, raw: DirectoryStore, folder: PackFolder, *, size: int = PACK) -> None:
        self._raw, self._folder, self._size = raw, folder, size

    def run(self, blobs: Sequence[ToPack], *, effort: Effort, progress: Progress) -> PackedBlobs:
        """See ``assay.ports.packs.Packing.pack``."""
        started, outcome = datetime.now(UTC), _Outcome()
        self._folder.index.refresh()
        wanted = {one.digest: one for one in blobs}
        fresh, there = [], []
        for one in wanted.values():
            packed, raw = self._is_packed(one.digest), self._raw.size(one.digest)
            if raw is None and packed:
                outcome.packed.add(one.digest)
            elif raw is not None and packed and self._is_readable(one.digest, progress):
                there.append(one.digest)
            elif raw is not None:
                fresh.append(one)
        self._release(there, started, outcome)
        while fresh:
            written = self._write(fresh, effort, progress)
            outcome.damaged.update(written.damaged)
            if written.directory.blobs:
                outcome.raw += sum(blob.size for blob in written.directory.blobs)
                outcome.stored += written.size
                outcome.same += written.same
                outcome.differing += written.differing
            self._release([blob.digest for blob in written.directory.blobs], started, outcome)
            fresh = [wanted[digest] for digest in written.left]
        elsewhere = wanted.keys() - outcome.packed - outcome.spared - outcome.damaged  # packed by somebody else
        outcome.packed.update(one for one in elsewhere if self._raw.size(one) is None and self._is_packed(one))
        return PackedBlobs(
            packed=tuple(sorted(outcome.packed)),
            spared=tuple(sorted(outcome.spared)),
            damaged=tuple(sorted(outcome.damaged)),
            raw=outcome.raw,
            stored=outcome.stored,
            same=outcome.same,
            differing=outcome.differing,
        )

    def _write(self, batch: Sequence[ToPack], effort: Effort, progress: Progress) -> Written:
        """One pack, durable and in the index, unless nothing came of it.

        It is written anew without raw copies that others removed while they were read, who packed or deleted them; as
        often as there are such, and a few times more, since one may be back before it is looked for. Likewise a few
        times without segments in older packs that turned out to be damaged, or not what they are called.
        """
        failed = 0
        while failed < _TRIES:
            try:
                with self._folder.packing():
                    return self._write_one(batch, effort, progress)
            except _Unsound as error:
                discard_segments(self._folder, error.damaged)  # they are stored anew the next time
                _discard_wrong(self._folder, error.wrong)
                failed += 1
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                left = [one for one in batch if self._raw.size(one.digest) is not None]
                failed += len(left) == len(batch)
                batch = left
                if failed == _TRIES:
                    raise
            except OSError as error:
                raise StorageError.of(error, f"cannot write a pack in {self._folder.folder}") from error
            progress = SILENT  # it heard of all of it, or will not
        raise IntegrityError(f"packs in {self._folder.folder} are damaged; assay verify --all says what is hit")

    def _write_one(self, batch: Sequence[ToPack], effort: Effort, progress: Progress) -> Written:
        stock = Stockroom(self._folder.index.read, self._folder.open_pack)
        with self._raw.staging.new(mode=READ_ONLY) as staged:
            with os.fdopen(os.dup(staged.descriptor), "w+b") as file:
                written = write_pack(
                    file, self._opened(batch), stock, effort=effort, progress=progress, limit=self._size
                )
                file.flush()
                os.fsync(file.fileno())
            if not written.directory.blobs:
                return written
            pack, name = FileSource(staged.path), written.name.hex()
            os.posix_fadvise(staged.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # what is read back comes from the disk
            read_back(pack, name)
            self._check_reused(written, stock)

            def commit(index: PackIndex) -> None:
                times = self._times([blob.digest for blob in written.directory.blobs])
                # Gone raw and packed: deleted. Gone raw only: another process packed it, perhaps into the same pack.
                missing = [blob.digest for blob in written.directory.blobs if blob.digest not in times]
                deleted = [str(digest) for digest in missing if index.blob(digest) is None]
                if staged.path.exists():  # else this runs a second time
                    self._folder.appear(staged.path, name, deleted)
                took = self._folder.gone(name)
                index.take_in_segments(name, written.size, written.directory, took)
                index.take_in_blobs(name, written.directory, took, 0, times)

            self._folder.index.write(commit)
        return written

    def _opened(self, batch: Sequence[ToPack]) -> list[tuple[ToPack, Source]]:
        found: list[tuple[ToPack, Source]] = []
        for one in batch:
            try:
                found.append((one, BriefSource(self._raw.path(one.digest))))
            except FileNotFoundError:
                continue  # deleted meanwhile
        return found

    def _check_reused(self, written: Written, stock: Stockroom) -> None:
        """Compare what the new pack relies on in older ones, and decode what it reuses of them.

        Nothing says of a pack here who wrote it, and an older copy of what is packed now is about to be the only one.
        Bases need no second decoding: each block of one was compared when a block was stored as the difference to it.

        Raises:
            _Unsound: some of it is damaged, or not what it is called.
        """
        own = {segment.id for segment in written.directory.segments}
        reused = {part for blob in written.directory.blobs for part in blob.parts} - own
        bases = {segment.base for segment in written.directory.segments if segment.base is not None} - own
        damaged = Sound(stock)
        sound = [damaged.is_sound(part) for part in reused | bases]  # all of them: each damaged one is noted
        wrong = find_wrong(stock, reused)
        if wrong is not None or not all(sound):
            raise _Unsound(damaged, wrong or ())

    def _times(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        """When raw blobs were last added, in nanoseconds; those that are gone are left out."""
        found = {}
        for digest in digests:
            try:
                found[digest] = self._raw.path(digest).stat().st_mtime_ns
            except FileNotFoundError:
                continue
        return found

    def _is_packed(self, digest: Digest) -> bool:
        return self._folder.index.read(lambda index: index.blob(digest)) is not None

    def _is_readable(self, digest: Digest, progress: Progress) -> bool:
        """Whether the packed copy of a blob is good; a bad one is taken out."""
        parts = self._folder.index.read(lambda index: index.parts(digest))
        if parts is None:
            return False
        source = PackedSource(Decoder(Stockroom(self._folder.index.read, self._folder.open_pack)), parts)
        try:
            if digest_source(source, algorithm=digest.algorithm, progress=progress) == digest:
                return True
        except StorageError:
            raise
        except AssayError:
            pass
        discard_blob(self._folder, digest)
        return False

    def _release(self, digests: Sequence[Digest], started: datetime, outcome: _Outcome) -> None:
        """Remove raw copies of what is packed, except those that somebody relies on."""
        left = iter(digests)
        while batch := list(islice(left, BATCH)):
            with self._raw.sweep() as sweep:

                def release(index: PackIndex, batch: list[Digest] = batch) -> None:
                    times = self._times(batch)
                    for digest in batch:
                        if index.blob(digest) is None:
                            continue  # deleted meanwhile: a raw copy is a new one
                        if digest not in times:
                            outcome.packed.add(digest)
                        elif sweep.idle(digest, started) and index.is_complete(digest):
                            index.renew(digest, times[digest])
                            sweep.delete(digest)
                            outcome.packed.add(digest)
                        else:
                            outcome.spared.add(digest)

                self._folder.index.write(release)


class _Unsound(Exception):
    """What a new pack would rely on is damaged."""

    def __init__(self, damaged: Sound, wrong: Collection[Segment]) -> None:
        super().__init__()
        self.damaged, self.wrong = damaged, wrong


def _discard_wrong(folder: PackFolder, wrong: Collection[Segment]) -> None:
    """Strike segments that do not give their ids out of the packs that they are read from, durably.

    What leans on them is found to be damaged the next time, unless another pack has the base.
    """

    def strike(index: PackIndex) -> None:
        packs: defaultdict[str, list[bytes]] = defaultdict(list)
        for segment in wrong:
            found = index.segment(segment.id)
            if found is not None and found.segment == segment:  # else another copy is read by now
                packs[found.pack].append(segment.id)
        for pack, ids in packs.items():
            folder.strike(index, pack, "bad", ids)
        folder.index.mend(index)

    if wrong:
        folder.index.write(strike)
