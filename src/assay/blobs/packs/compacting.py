"""Compaction: packs are written anew without what nobody needs.

    dead       no blob is made of it, and nothing that counts is the difference to it: it is left out
    base only  no blob is made of it, but others are stored as the difference to it: it is left out, and those are
               encoded anew, against what stays of its own bases, against each other, or plain

Stored bytes of everything else are copied as they are. The new pack is durable before the index says so, and both are
before the old ones go; each old one first says which pack takes its place (``gone``), so that a crash in between
leaves nothing that could bring back what was deleted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from blake3 import blake3

from assay.blobs.packs.checking import read_back
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.keeping import read_directory
from assay.blobs.packs.rebasing import Rebaser
from assay.blobs.packs.stock import Stockroom
from assay.blobs.staging import READ_ONLY, Staging
from assay.errors import AssayError, StorageError
from assay.packing import directory
from assay.packing.directory import Directory, Hint, PackedBlob
from assay.packing.segments import CHECK, Segment
from assay.ports.progress import Progress
from assay.spec.digest import Digest
from assay.streams.durable import write_at
from assay.trees import Source
from assay.trees.window import FileSource

COPY = 4 << 20
PACK = 1 << 30
"""Bytes that stay of packs which are written anew together."""


def dead_bytes(index: PackIndex, *, bases: bool = False) -> dict[str, int]:
    """Per pack, bytes that no blob needs, not even as a base; with *bases* also those that only serve as one."""
    packs, unused = index.packs(), index.unused()
    needed = set[bytes]() if bases else _needed(index, {segment for segment, _, _ in unused})
    found = dict.fromkeys(packs, 0)
    for segment, stored, pack in unused:
        if segment not in needed:
            found[pack] += stored
    return {
        name: row.size if not row.blobs and dead == row.kept and not row.fault else dead + row.spare
        for (name, row), dead in zip(packs.items(), found.values(), strict=True)
    }


def _needed(index: PackIndex, unused: set[bytes]) -> set[bytes]:
    """Those that something which a blob is made of is the difference to, however far.

    Bases may go on from pack to pack without end, whatever each pack says of its own.
    """
    found = set[bytes]()
    new = [one for one in unused if not unused.issuperset(index.leaning(one))]
    while new:
        segment = new.pop()
        found.add(segment)
        held = index.segment(segment)
        base = None if held is None else held.segment.base
        if base is not None and base in unused and base not in found:
            new.append(base)
    return found


@dataclass(slots=True)
class _Survey:
    """What becomes of the segments of some packs.

    Args:
        copied: needed as they are, each with the pack that holds it.
        anew: needed, but differences to what goes; lowest first. They may lie in other packs.
        gone: ids of what goes, each with the one of these packs that it goes for: its own, or that of a base of it.
        blobs: that the packs list.
        hints: of what stays.
    """

    copied: list[tuple[Segment, str]] = field(default_factory=list)
    anew: list[tuple[Segment, str]] = field(default_factory=list)
    gone: dict[bytes, str] = field(default_factory=dict)
    blobs: dict[Digest, PackedBlob] = field(default_factory=dict)
    hints: dict[bytes, Hint] = field(default_factory=dict)


class Compactor:
    """Writes packs of a folder anew.

    Args:
        folder: where they lie.
        staging: where new ones are made.
    """

    def __init__(self, folder: PackFolder, staging: Staging) -> None:
        self._folder, self._staging = folder, staging

    def run(self, least: float, *, progress: Progress) -> int:
        """See ``assay.ports.packs.Packing.compact``."""
        try:
            with self._folder.compacting():
                self._folder.index.refresh()
                freed = sum(self._folder.remove(name) for name in self._folder.superseded())
                tried: set[str] = set()
                while chosen := self._chosen(least, tried):  # what is stored otherwise leaves dead bytes elsewhere
                    tried.update(name for name, _ in chosen)
                    for group in _groups(chosen):
                        freed += self._compact(group, careful=least > 0, progress=progress)
                return freed
        except OSError as error:
            raise StorageError.of(error, f"cannot compact packs in {self._folder.folder}") from error

    def _chosen(self, least: float, tried: set[str]) -> list[tuple[str, int]]:
        chosen = self._folder.index.read(lambda index: _chosen(index, least))
        return [one for one in chosen if one[0] not in tried]

    def _compact(self, names: Sequence[str], *, careful: bool, progress: Progress) -> int:
        """Write some packs anew, as one; the bytes that came back.

        Args:
            names: of the packs.
            careful: leave out those that damage keeps from being written anew without loss.
            progress: hears of stored bytes.
        """
        left = names
        while left:
            try:
                return self._write_anew(left, careful=careful, progress=progress)
            except _Damaged as error:
                names, left = left, [name for name in left if name not in error.packs]
                if len(left) == len(names):
                    break
        return 0

    def _write_anew(self, names: Sequence[str], *, careful: bool, progress: Progress) -> int:
        held = {}
        for name in names:
            try:
                held[name] = read_directory(self._folder.open_pack(name), name)
            except StorageError:
                raise
            except AssayError:
                continue  # what cannot be read is not removed
        survey = self._folder.index.read(lambda index: _survey(index, held))
        stock = Stockroom(self._folder.index.read, self._folder.open_pack)
        with self._staging.new(mode=READ_ONLY) as staged:
            writer = _Writer(staged.descriptor, self._folder, stock, progress)
            damaged = writer.write(survey)
            if careful and damaged:
                raise _Damaged(damaged)
            new = writer.finish(survey) if survey.blobs or writer.segments else None
            if new is not None and new.name in held:
                return 0  # nothing of it can be left out
            if new is not None:
                read_back(FileSource(staged.path), new.name)

            def commit(index: PackIndex) -> None:
                for old in held:
                    self._folder.index.take_struck(index, old)
                if new is not None and staged.path.exists():
                    deleted = [str(digest) for digest in survey.blobs if index.blob(digest) is None]
                    for old in held:
                        self._folder.note(old, "moved", [new.name])
                    self._folder.appear(staged.path, new.name, deleted)
                _exchange(index, held, survey)
                if new is not None:
                    took = self._folder.gone(new.name)
                    index.take_in_segments(new.name, new.size, new.directory, took)
                    index.take_in_blobs(new.name, new.directory, took, 0)
                for old, one in held.items():
                    for blob in one.blobs:
                        index.unlist(blob.digest, old)
                    index.drop_pack(old)
                self._folder.index.mend(index)  # the index may have been made again since it was asked

            self._folder.index.write(commit)
        return sum(self._folder.remove(old) for old in held) - (new.size if new is not None else 0)


class _Damaged(Exception):
    """Some packs cannot be written anew without loss."""

    def __init__(self, packs: set[str]) -> None:
        super().__init__()
        self.packs = packs


def _chosen(index: PackIndex, least: float) -> list[tuple[str, int]]:
    """Packs to write anew, each with the bytes that may stay of it."""
    dead, chosen = dead_bytes(index, bases=least <= 0), []
    for name, row in index.packs().items():
        if not row.fault and dead[name] and dead[name] >= least * row.size:
            chosen.append((name, row.size - dead[name]))
    return chosen


def _groups(chosen: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for name, size in chosen:
        if group and total + size > PACK:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _survey(index: PackIndex, held: dict[str, Directory]) -> _Survey:
    survey = _Survey()
    needed: list[tuple[Segment, str]] = []
    for name, one in held.items():
        for segment in one.segments:
            found = index.segment(segment.id)
            if found is None or found.pack != name:
                continue
            if found.uses:
                needed.append((found.segment, name))
                if segment.id in one.hints:
                    survey.hints[segment.id] = one.hints[segment.id]
            else:
                survey.gone[segment.id] = name
        survey.blobs.update({blob.digest: blob for blob in one.blobs if name in index.listing(blob.digest)})
    anew = _spread(index, survey.gone)
    survey.copied = [one for one in needed if one[0].id not in anew]
    survey.anew = sorted(anew.values(), key=lambda one: one[0].depth)
    for segment, _ in survey.anew:
        hint = index.hint(segment.id)
        if hint is not None:
            survey.hints[segment.id] = hint
    return survey


def _spread(index: PackIndex, gone: dict[bytes, str]) -> dict[bytes, tuple[Segment, str]]:
    """What must be stored otherwise when *gone* goes; unneeded differences to it go with it."""
    anew, new = {}, list(gone)
    while new:
        base = new.pop()
        for leaning in index.leaning(base):
            found = index.segment(leaning)
            if found is None or leaning in gone:
                continue
            if found.uses:
                anew[leaning] = found.segment, found.pack
            else:
                gone[leaning] = gone[base]
                new.append(leaning)
    return anew


def _exchange(index: PackIndex, held: Collection[str], survey: _Survey) -> None:
    """Rows of what is written anew, or goes, make way."""
    for segment, pack in (*survey.copied, *survey.anew):
        index.lose(segment.id, pack, spare=pack not in held)
    for gone in survey.gone:
        found = index.segment(gone)
        if found is not None:
            index.lose(gone, found.pack, spare=found.pack not in held)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A new pack that is not visible yet."""

    name: str
    size: int
    directory: Directory


class _Writer:
    """A new pack.

    Args:
        descriptor: where it goes.
        folder: where what is copied lies.
        stock: finds segments.
        progress: hears of stored bytes.
    """

    def __init__(self, descriptor: int, folder: PackFolder, stock: Stockroom, progress: Progress) -> None:
        self._descriptor, self._folder, self._stock, self._progress = descriptor, folder, stock, progress
        self._at = write_at(descriptor, directory.MAGIC, 0)
        self.segments: dict[bytes, Segment] = {}

    def write(self, survey: _Survey) -> set[str]:
        """Write segments; those that are damaged are left out. The packs that are written anew without them."""
        damaged = set()
        for segment, pack in survey.copied:
            if not self._copy(segment, self._folder.open_pack(pack)):
                damaged.add(pack)
        rebaser = Rebaser(self._stock, survey.gone)
        for segment, pack in survey.anew:
            try:
                self._anew(rebaser, segment)
            except StorageError:
                raise
            except AssayError:  # it stays as it is when what it is a difference to stays; it may lie in any pack
                damaged.add(survey.gone.get(segment.base or b"", pack))
        return damaged

    def finish(self, survey: _Survey) -> _Finished:
        """Write the directory and flush."""
        hints = {one: hint for one, hint in survey.hints.items() if one in self.segments}
        held = Directory(directory.fitted(self.segments.values()), tuple(survey.blobs.values()), hints)
        stored = directory.encode(held)
        end = directory.footer(self._at, stored)
        size = write_at(self._descriptor, end, write_at(self._descriptor, stored, self._at))
        os.fsync(self._descriptor)
        return _Finished(blake3(stored).digest().hex(), size, held)

    def _copy(self, segment: Segment, pack: Source) -> bool:
        state, start, at = blake3(), self._at, segment.offset
        end = segment.offset + segment.stored
        while at < end and (data := pack.read(at, min(COPY, end - at))):
            state.update(data)
            self._at = write_at(self._descriptor, data, self._at)
            self._progress.advance(len(data))
            at += len(data)
        if state.digest()[:CHECK] != segment.check:
            self._at = start
            return False
        self.segments[segment.id] = replace(segment, offset=start)
        return True

    def _anew(self, rebaser: Rebaser, segment: Segment) -> None:
        state, start = blake3(), self._at
        base, parts = rebaser.encode(segment)
        try:
            for part in parts:
                state.update(part)
                self._at = write_at(self._descriptor, part, self._at)
        except AssayError:
            self._at = start
            raise
        self._progress.advance(self._at - start)
        written = replace(
            segment,
            base=None if base is None else base.id,
            depth=0 if base is None else base.depth + 1,
            offset=start,
            stored=self._at - start,
            check=state.digest()[:CHECK],
        )
        self.segments[segment.id] = written
        rebaser.wrote(segment, written)
