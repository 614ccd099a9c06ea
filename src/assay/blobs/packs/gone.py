"""What was taken out of a pack since it was written: a file beside it that lines are appended to.

    blob sha256:<hex> <check>     the blob was deleted
    bad <hex> <check>             the segment is damaged and must not be used
    moved <name> <check>          all that counts of this pack is in that one; holds once that one is there

The check is the first eight bytes of the BLAKE3 digest of the pack's name, a blank and the line up to the check. A line
that does not match its check was cut off by a crash, or damaged, and does not count: what was deleted is then back, and
garbage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from blake3 import blake3

from assay.errors import InvalidInput
from assay.spec.digest import Digest

Kind = Literal["blob", "bad", "moved"]


@dataclass(slots=True)
class Gone:
    """What does not count of a pack any more.

    Args:
        blobs: that were deleted.
        bad: ids of segments that are damaged.
        moved: the packs that took its place, if that was begun.
        length: bytes that say all this.
    """

    blobs: set[Digest] = field(default_factory=set)
    bad: set[bytes] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    length: int = 0


def lines(pack: str, kind: Kind, what: Iterable[str]) -> bytes:
    """Lines to append. They begin on a line of their own, whatever a crash left of the one before."""
    return b"\n" + b"".join(f"{text} {_check(pack, text)}\n".encode() for text in (f"{kind} {one}" for one in what))


def parse(pack: str, data: bytes) -> Gone:
    """What the lines say, taken in order.

    Args:
        pack: the pack's name.
        data: the file's bytes.
    """
    found = Gone(length=len(data))
    for line in data.decode("ascii", errors="replace").split("\n"):
        text, _, check = line.rpartition(" ")
        if text and check == _check(pack, text):
            kind, _, what = text.partition(" ")
            _take(found, kind, what)
    return found


def _take(found: Gone, kind: str, what: str) -> None:
    try:
        if kind == "blob":
            found.blobs.add(Digest.parse(what))
        elif kind == "bad":
            found.bad.add(bytes.fromhex(what))
        elif kind == "moved":
            found.moved.add(what)
    except (ValueError, InvalidInput):
        return  # a line of a later release: it matched its check


def _check(pack: str, text: str) -> str:
    return blake3(f"{pack} {text}".encode()).digest()[:8].hex()
