"""Where the files of a description lie on disk.

Paths come from descriptions and may stem from foreign bytes, so each is checked to stay inside the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from posixpath import basename, dirname

from assay.errors import NotFound, Refused
from assay.spec.description import Description


def file_of(folder: Path, path: str) -> Path:
    """The local file of an entry.

    Raises:
        Refused: the path leaves the folder (code ``path-escape``).
        NotFound: there is no such file.
    """
    file = folder / path
    if path.startswith("/") or ".." in path.split("/"):
        raise Refused(f"path leaves the artifact: {path!r:.200}", code="path-escape", path=path)
    if not file.is_file():
        raise NotFound(f"file of the model is not here: {path}", code="entry-missing", path=path)
    return file


def main_file(folder: Path, description: Description, *suffixes: str) -> Path:
    """The file that a file format's description is about: the first with one of the suffixes, else the first.

    Raises:
        NotFound: it is not there.
    """
    wanted = [path for suffix in suffixes for path in description.paths if path.endswith(suffix)]
    return file_of(folder, (wanted or list(description.paths))[0])


def directory(folder: Path, description: Description, *names: str) -> Path:
    """The folder that a directory format's description is about.

    It is where the outermost of the files called one of *names* lies (``config.json``), else the common parent of all.

    Raises:
        Refused: it lies outside the artifact.
    """
    named = [path for path in description.paths if basename(path) in names]
    parents = {dirname(path) for path in named} or {dirname(path) for path in description.paths}
    inner = min(parents, key=lambda parent: (parent.count("/") + bool(parent), parent)) if named else _common(parents)
    if inner.startswith("/") or ".." in inner.split("/"):
        raise Refused(f"path leaves the artifact: {inner!r:.200}", code="path-escape", path=inner)
    return folder / inner if inner else folder


def inside(description: Description, descriptions: Sequence[Description]) -> tuple[Description, ...]:
    """The other descriptions whose files all lie in the folder of *description*."""
    home = _common({dirname(path) for path in description.paths})
    prefix = f"{home}/" if home else ""
    return tuple(
        other
        for other in descriptions
        if other is not description and all(path.startswith(prefix) for path in other.paths)
    )


def _common(parents: set[str]) -> str:
    split = [parent.split("/") if parent else [] for parent in parents]
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) != 1:
            break
        shared.append(parts[0])
    return "/".join(shared)
