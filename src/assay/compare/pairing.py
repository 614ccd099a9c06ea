"""Which file of one side is which of the other: by path, by content, and by what it is where both names changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from posixpath import basename

from assay.compare.covered import Cover
from assay.compare.sides import Compared
from assay.spec.digest import Digest
from assay.streams.copying import digest_source

LARGE = 64 << 20
"""Bytes of a file from which on it is not read merely to learn whether it is the same."""


@dataclass(slots=True)
class Pairs:
    """The files of two sides.

    Args:
        changed: pairs of paths whose bytes differ.
        renamed: pairs of paths with the same bytes under other names.
        removed, added: paths without a partner.
        equal: paths with the same bytes on both sides.
    """

    changed: list[tuple[str, str]] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)


def pair(old: Compared, new: Compared) -> Pairs:
    """Pair the files of two sides; reads only files of one size whose digest is not known."""
    pairs = Pairs()
    for path in old.tree:
        if path not in new.tree:
            pairs.removed.append(path)
        elif _same(old, path, new, path):
            pairs.equal.append(path)
        else:
            pairs.changed.append((path, path))
    pairs.added = [path for path in new.tree if path not in old.tree]
    _by_content(pairs, old, new)
    _by_kind(pairs, old, new)
    return pairs


def _by_content(pairs: Pairs, old: Compared, new: Compared) -> None:
    by_size: dict[int, list[str]] = {}
    for path in pairs.added:
        by_size.setdefault(new.tree.size(path), []).append(path)
    for path in list(pairs.removed):
        for other in by_size.get(old.tree.size(path), ()):
            if other in pairs.added and _same(old, path, new, other):
                pairs.renamed.append((path, other))
                pairs.removed.remove(path)
                pairs.added.remove(other)
                break


def _by_kind(pairs: Pairs, old: Compared, new: Compared) -> None:
    """Pair what is left when there is one of a kind on either side: the only pickle, the only file called so."""
    for same in (_name, _format):
        before: dict[str, list[str]] = {}
        after: dict[str, list[str]] = {}
        for path in pairs.removed:
            before.setdefault(same(old, path), []).append(path)
        for path in pairs.added:
            after.setdefault(same(new, path), []).append(path)
        for kind, paths in before.items():
            if kind and len(paths) == 1 and len(after.get(kind, ())) == 1:
                pairs.changed.append((paths[0], after[kind][0]))
                pairs.removed.remove(paths[0])
                pairs.added.remove(after[kind][0])


def _name(_: Compared, path: str) -> str:
    return basename(path)


def _format(side: Compared, path: str) -> str:
    """Format and kind of the one file a description covers, or of a graph beside its data; nothing for other parts."""
    for found in side.inspection.descriptions:
        if found.paths == (path,) or (found.format == "onnx" and path in found.paths and path.endswith(".onnx")):
            return kind_of_format(found.format)
    return ""


def kind_of_format(name: str) -> str:
    """Formats whose files hold the same things and are compared with each other, under one name."""
    return "pickle" if name == "joblib" else name


def _same(old: Compared, path: str, new: Compared, other: str) -> bool:
    """Whether two entries have the same bytes; large weights nobody hashed are left to the comparison of tensors."""
    if old.tree.size(path) > LARGE and not (path in old.digests and other in new.digests):
        plain = all(Cover.of(side, name).places for side, name in ((old, path), (new, other)))
        if plain and path == other:
            return False
    return old.tree.size(path) == new.tree.size(other) and digest(old, path) == digest(new, other)


def digest(side: Compared, path: str) -> Digest:
    """The digest of an entry: known, or made of its bytes once."""
    known = side.digests.get(path)
    if known is not None:
        return known
    return side.tree.remember(("digest", path), lambda: digest_source(side.tree.source(path)))
