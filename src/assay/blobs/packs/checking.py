"""Whether packs are as they were written: stored bytes against their checksums, without decoding."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.keeping import read_directory
from assay.errors import AssayError, IntegrityError, NotFound, StorageError
from assay.packing.directory import MAGIC, Directory
from assay.packing.reading import MAX_DEPTH, Shelf
from assay.packing.segments import CHECK, Segment
from assay.ports.packs import PackFault
from assay.ports.progress import SILENT, Progress
from assay.spec.digest import Digest
from assay.trees import Source

BLOCK = 4 << 20


def is_intact(segment: Segment, pack: Source, *, progress: Progress = SILENT) -> bool:
    """Whether what is stored of a segment matches its checksum."""
    state, at, end = blake3(), segment.offset, segment.offset + segment.stored
    while at < end:
        data = pack.read(at, min(BLOCK, end - at))
        if not data:
            return False
        state.update(data)
        progress.advance(len(data))
        at += len(data)
    return bool(state.digest()[:CHECK] == segment.check)


def read_back(pack: Source, name: str) -> Directory:
    """Compare every byte of a pack with its checksums; its directory.

    Raises:
        IntegrityError: something does not match.
        BadFormat: the directory cannot be read.
    """
    held = read_directory(pack, name)
    for segment in held.segments:
        if not is_intact(segment, pack):
            raise IntegrityError(f"pack {name[:12]}: segment {segment.id.hex()[:12]} is not what was written")
    return held


class Sound:
    """Which segments can be decoded, as far as checksums tell: each is looked at once, with all its bases.

    Args:
        shelf: where segments are found.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known: dict[bytes, bool] = {}
        self.damaged: set[bytes] = set()
        """Ids of segments whose own bytes are damaged."""
        self.bad: set[bytes] = set()
        """Ids of segments whose own bytes are damaged, or whose base is not there or damaged."""

    def is_sound(self, segment: bytes, *, depth: int = 0) -> bool:
        """Whether a segment and all that it is stored as the difference to match their checksums."""
        if segment not in self._known:
            found = self._shelf.find(segment)
            sound = found is not None and depth <= MAX_DEPTH
            if found is not None:
                held, pack = found
                if not is_intact(held, pack):
                    self.damaged.add(held.id)
                    sound = False
                sound = sound and (held.base is None or self.is_sound(held.base, depth=depth + 1))
                if not sound:
                    self.bad.add(held.id)
            self._known[segment] = sound
        return self._known[segment]


def check_packs(folder: PackFolder, *, progress: Progress = SILENT) -> Iterator[PackFault]:
    """Compare every stored byte of every pack; what is wrong, and which blobs are hit by it."""
    known = folder.index.read(lambda index: index.packs())
    for name in folder.names():
        fault = _check_pack(folder, name, progress)
        if fault is None and name in known and known[name].fault:  # nothing in it is found, whatever its bytes are
            fault = PackFault(name, known[name].fault, ())
        if fault is not None:
            yield fault
    lost = folder.index.read(lambda index: index.lost())
    hit = folder.index.read(lambda index: index.holders(_leaning(index, set(lost)))) if lost else []
    if hit:
        yield PackFault("", f"{len(lost)} segments that blobs need are in no pack", tuple(hit))


def _check_pack(folder: PackFolder, name: str, progress: Progress) -> PackFault | None:
    try:
        pack = folder.open_pack(name)
        held = read_directory(pack, name)
    except NotFound:
        return None  # compacted meanwhile
    except StorageError:
        raise
    except AssayError as error:
        return PackFault(name, error.message, tuple(folder.index.read(lambda index: index.listed_by(name))))
    if pack.read(0, len(MAGIC)) != MAGIC:
        return PackFault(name, "it does not begin as a pack; everything in it can be read", ())
    known = folder.gone(name).bad
    bad = {one.id for one in held.segments if not is_intact(one, pack, progress=progress)} - known
    if not bad:
        return None
    what = f"{len(bad)} of {len(held.segments)} segments are damaged"
    return PackFault(name, what, tuple(folder.index.read(lambda index: hit_by(index, name, bad))))


def hit_by(index: PackIndex, name: str, bad: set[bytes]) -> list[Digest]:
    """Blobs that cannot be read when these segments of a pack are damaged."""
    here = set()
    for one in bad:
        found = index.segment(one)
        if found is not None and found.pack == name:
            here.add(one)
    return index.holders(_leaning(index, here)) if here else []


def _leaning(index: PackIndex, segments: set[bytes]) -> set[bytes]:
    """These segments and all that are differences to them, however far."""
    found, new = set(segments), set(segments)
    while new:
        new = {one for segment in new for one in index.leaning(segment)} - found
        found |= new
    return found
