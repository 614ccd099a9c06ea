"""Zip archives member by member: what torch, TorchScript, Keras, NumPy and skops write.

Times, order and compression of members are how they were packed, not what they say. Members that hold tensors of the
description are left to the comparison of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from assay.compare.covered import Cover, window_digest
from assay.compare.gathering import Gathered, Judgement
from assay.compare.script import compare_code, is_code, read_code
from assay.containers.archive import Archive
from assay.containers.guard import guarded
from assay.containers.npy import parse_npy
from assay.containers.pickle.parse import parse
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

MAX_MEMBERS = 20_000

_STORAGE = re.compile(r"(?:.*/)?(?:data|constants|tensors|storages|\.data)/(?:[^/]+/)?\d+(?:\.storage)?")
_LAYOUT = re.compile(
    r"(?:.*/)?(?:version|byteorder|\.format_version|\.storage_alignment|\.data/(?:serialization_id|version))"
)
_DEBUG = re.compile(r".*\.debug_pkl")
_PACKED = Judgement(Area.FORMAT, Effect.NOTE, "how it was packed, not what it holds")
_TRACE = Judgement(Area.METADATA, Effect.NOTE, "where the code stood when it was traced; shown in error messages only")


@dataclass(frozen=True, slots=True)
class Part:
    """One thing of both sides whose bytes differ.

    Args:
        path: where it is, ``model.keras!config.json`` inside an archive.
        old, new: its bytes.
        before, after: the tensors of the entry it is in.
        format: of the entry, as its description names it.
    """

    path: str
    old: Window
    new: Window
    before: Cover
    after: Cover
    format: str = ""

    @property
    def place(self) -> str:
        """Where it is, without the archive."""
        return self.path.rpartition("!")[2]


Further = Callable[[Gathered, Part], None]


def compare_archives(gathered: Gathered, part: Part, further: Further) -> bool:
    """Note what changed between two archives; whether arrays differ in them that no tensor stands for.

    Args:
        gathered: where to note it.
        part: the archives.
        further: compares members that differ.
    """
    try:
        with guarded("a zip archive", part.path):
            old, new = Archive(part.old), Archive(part.new)
            if max(len(old.members), len(new.members)) > MAX_MEMBERS:
                raise ValueError(f"more than {MAX_MEMBERS:,} members")
            before, after = _named(old), _named(new)
            if part.format == "torchscript":
                _code(gathered, part, (old, before), (new, after))
                before, after = (
                    {name: own for name, own in one.items() if not is_code(name)} for one in (before, after)
                )
            loose: tuple[list[str], list[str]] = ([], [])
            for name in sorted({*before, *after}):
                _member(gathered, part, name, (old, before.get(name)), (new, after.get(name)), loose, further)
            return sorted(loose[0]) != sorted(loose[1])
    except AssayError as error:
        gathered.unread(part.path, error.message)
    return False


def _code(
    gathered: Gathered, part: Part, old: tuple[Archive, dict[str, str]], new: tuple[Archive, dict[str, str]]
) -> None:
    """The code of two TorchScript modules; their classes are numbered in the order in which the module names them."""
    pair = []
    for archive, names in (old, new):
        pickle = names.get("data.pkl")
        uses = parse(archive.open(pickle)).globals if pickle is not None else ()
        pair.append(read_code(archive, names, [str(use.global_) for use in uses]))
    digests = [
        {(name, archive.member(own).crc) for name, own in names.items() if is_code(name)}
        for archive, names in (old, new)
    ]
    compare_code(gathered, pair[0], pair[1], part.path, renumbered=digests[0] != digests[1])


def _named(archive: Archive) -> dict[str, str]:
    """Members by their names without a folder that all of them are in: torch names it after the file."""
    names = [member.name for member in archive.members]
    folders = {name.partition("/")[0] for name in names}
    if len(folders) == 1 and all("/" in name for name in names):
        return {name.partition("/")[2]: name for name in names}
    return {name: name for name in names}


def _member(
    gathered: Gathered,
    part: Part,
    name: str,
    old: tuple[Archive, str | None],
    new: tuple[Archive, str | None],
    loose: tuple[list[str], list[str]],
    further: Further,
) -> None:
    windows = [archive.open(inner) if inner is not None else None for archive, inner in (old, new)]
    if name.endswith(".npy"):
        for window, cover, rest in zip(windows, (part.before, part.after), loose, strict=True):
            if window is not None and not held_array(window, cover):
                rest.append(window_digest(window))
        return
    if _STORAGE.fullmatch(name) and _listed(part):
        return
    if _DEBUG.fullmatch(name) and part.format == "torchscript":
        return  # where the code stood when it was traced: shown in error messages, and renumbered with the code
    path = f"{part.path}!{name}"
    one, other = windows
    if one is None or other is None:
        known = _LAYOUT.fullmatch(name) or _DEBUG.fullmatch(name)
        judged = _PACKED if known else Judgement(Area.CODE if name.endswith(".py") else Area.FILES)
        gathered.add(judged, path, ItemKind.ADDED if one is None else ItemKind.REMOVED)
        return
    if one.size == other.size and window_digest(one) == window_digest(other):
        return
    if _LAYOUT.fullmatch(name) or _DEBUG.fullmatch(name):
        gathered.add(_PACKED if _LAYOUT.fullmatch(name) else _TRACE, path, ItemKind.CHANGED)
        return
    further(gathered, Part(path, one, other, part.before, part.after, part.format))


def _listed(part: Part) -> bool:
    """Whether both descriptions list all tensors, so that storages need no second look."""
    return all(cover.complete and cover.specs for cover in (part.before, part.after))


def held_array(window: Window, cover: Cover) -> bool:
    """Whether the array in a ``.npy`` member is one of the tensors that are compared."""
    try:
        header = parse_npy(window)
    except AssayError:
        return False
    return cover.holds((window.start + header.offset, header.nbytes or 0), tuple(header.shape), header.dtype)
