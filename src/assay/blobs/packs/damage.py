"""Taking what is damaged out of packs, so that packing or adding the same content again repairs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from assay.blobs.packs.checking import Sound, is_intact
from assay.blobs.packs.folder import PackFolder
from assay.blobs.packs.index import PackIndex
from assay.blobs.packs.stock import Stockroom
from assay.spec.digest import Digest


def delete_blobs(folder: PackFolder, digests: Collection[Digest]) -> set[Digest]:
    """Strike blobs out of every pack that lists them, durably; which of them were there."""
    if not digests or not folder.is_used():
        return set()

    def strike(index: PackIndex) -> set[Digest]:
        listed: defaultdict[str, list[Digest]] = defaultdict(list)
        for digest in digests:
            for pack in index.listing(digest):
                listed[pack].append(digest)
        for pack, found in listed.items():
            folder.strike(index, pack, "blob", found)
        return {digest for found in listed.values() for digest in found}

    # Asked within the change, not before: who packs one just now may have seen its raw copy before it went.
    return folder.index.write(strike)


def discard_segments(folder: PackFolder, sound: Sound) -> None:
    """Strike damaged segments out of the packs that they are read from, durably; others may hold them as well.

    What leaned on them is struck out only where no other pack has the base: else it is good again.
    """

    def strike(index: PackIndex) -> None:
        _strike(folder, index, {one for one in sound.damaged if _is_damaged(folder, index, one)})
        _strike(folder, index, {one for one in sound.bad if not index.is_whole(one)})

    if sound.bad:
        folder.index.write(strike)


def _is_damaged(folder: PackFolder, index: PackIndex, segment: bytes) -> bool:
    """Whether it is damaged where it is read from now, which may be another pack than when it was looked at."""
    found = index.segment(segment)
    return found is not None and not is_intact(found.segment, folder.open_pack(found.pack))


def _strike(folder: PackFolder, index: PackIndex, segments: Collection[bytes]) -> None:
    packs: defaultdict[str, list[bytes]] = defaultdict(list)
    for segment in segments:
        found = index.segment(segment)
        if found is not None:
            packs[found.pack].append(found.segment.id)
    for pack, found_there in packs.items():
        folder.strike(index, pack, "bad", found_there)
    folder.index.mend(index)


def discard_blob(folder: PackFolder, digest: Digest) -> bool:
    """Take a blob out of use: what is damaged of it, and then itself; whether it was there."""
    parts = folder.index.read(lambda index: index.parts(digest))
    if parts is None:
        return False
    sound = Sound(Stockroom(folder.index.read, folder.open_pack))
    for part, _ in parts:
        sound.is_sound(part)
    discard_segments(folder, sound)
    return digest in delete_blobs(folder, [digest])
