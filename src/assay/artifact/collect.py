"""Which files of a path become entries of an artifact.

Everything does, hidden files too, unless the ``.assayignore`` at the top (gitignore rules) leaves it out. Links are
followed when they stay inside the tree, or when the tree is a Hugging Face cache snapshot and they point into its
sibling ``blobs/``; any other link is refused, because what it points to is not part of the model. Empty folders, modes,
owners and times are not part of an artifact.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import InvalidInput, NotFound, StorageError
from assay.later import later
from assay.spec.paths import check_path, check_together
from assay.trees import Tree
from assay.trees.window import FileSource

if TYPE_CHECKING:
    import pathspec
else:
    pathspec = later("pathspec")

IGNORE_FILE = ".assayignore"
_RENAME = f"rename it, or leave it out with {IGNORE_FILE}"
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


def collect(path: Path, *, everything: bool = False) -> dict[str, Path]:
    """The entries of a file or folder: entry path to the file that holds its bytes, sorted.

    A single file becomes one entry under its base name.

    Args:
        path: the file or folder.
        everything: whether what an ignore file in it leaves out is taken, too: whoever judges a folder must not be told
            by the folder where not to look.

    Raises:
        NotFound: there is nothing at *path* (code ``path-not-found``).
        InvalidInput: nothing to pack, a link that leads outside, a special file, or names that no artifact may hold
            (codes ``empty-tree``, ``link-outside``, ``special-file``, ``unsafe-path``, ``path-collision``).
        StorageError: a folder cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFound(
            f"no such file or folder: {path}",
            code="path-not-found",
            hint=None if path.is_absolute() else f"looked in {_here()}",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if stat.S_ISREG(mode):
        return {check_path(path.name, hint="rename the file"): path}
    if not stat.S_ISDIR(mode):
        raise _special(path, mode)
    files = dict(sorted(_Walk(path, everything=everything).files()))
    if not files:
        raise InvalidInput(
            f"there is nothing to pack in {path}: no files",
            code="empty-tree",
            hint="empty folders are not part of an artifact" + (f"; see {IGNORE_FILE}" if _ignored(path) else ""),
        )
    check_together(files)
    return files


def tree_of(files: Mapping[str, Path]) -> Tree:
    """A tree over collected files.

    Raises:
        StorageError: a file may not be read (code ``unreadable``).
    """
    for file in files.values():
        if not os.access(file, os.R_OK):
            raise StorageError(
                f"cannot read {file}: permission denied", code="unreadable", hint="ask its owner for the right to read"
            )
    return Tree({entry: FileSource(file) for entry, file in files.items()})


class _Walk:
    """One walk over a folder; remembers real folders on the way down, so that link cycles are found."""

    def __init__(self, root: Path, *, everything: bool) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self._spec = None if everything else _read_ignore(root)
        self._snapshot_blobs = _snapshot_blobs(self._real)

    def files(self) -> Iterator[tuple[str, Path]]:
        """Entry path and file, in no particular order."""
        pending: list[tuple[Path, str, tuple[str, ...]]] = [(self._root, "", (str(self._real),))]
        while pending:
            folder, prefix, above = pending.pop()
            for item in self._scan(folder):
                entry = f"{prefix}{item.name}"
                if self._spec is not None and self._spec.match_file(f"{entry}/" if item.is_dir() else entry):
                    continue
                file = Path(item.path)
                if item.is_symlink():
                    file = self._follow(file, entry)
                mode = _mode(file)
                if stat.S_ISDIR(mode):
                    real = os.path.realpath(file)
                    if real in above:
                        raise InvalidInput(
                            f"link {entry!r} leads back to a folder above it",
                            code="link-cycle",
                            path=entry,
                            hint=f"remove it or leave it out with {IGNORE_FILE}",
                        )
                    pending.append((file, f"{entry}/", (*above, real)))
                elif stat.S_ISREG(mode):
                    yield check_path(entry, hint=_RENAME), file
                else:
                    raise _special(file, mode)

    def _follow(self, link: Path, entry: str) -> Path:
        real = Path(os.path.realpath(link))
        if not real.exists():
            raise InvalidInput(
                f"link {entry!r} points to nothing: {link.readlink()}",
                code="link-broken",
                path=entry,
                hint=f"remove it or leave it out with {IGNORE_FILE}",
            )
        inside = real.is_relative_to(self._real)
        in_blobs = self._snapshot_blobs is not None and real.is_relative_to(self._snapshot_blobs)
        if not inside and not in_blobs:
            raise InvalidInput(
                f"link {entry!r} leads outside the folder that is packed, to {link.readlink()}",
                code="link-outside",
                path=entry,
                hint=f"replace it by the file itself (cp -L), or leave it out with {IGNORE_FILE}",
            )
        return real

    def _scan(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as items:
                return list(items)
        except OSError as error:
            raise _unreadable(folder, error) from error


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError as error:
        raise _unreadable(file, error) from error


def _snapshot_blobs(root: Path) -> Path | None:
    """The blob folder of a Hugging Face cache whose snapshot *root* is: ``models--x/{blobs,snapshots/REVISION}``."""
    cache = root.parent.parent
    if root.parent.name == "snapshots" and cache.name.startswith(("models--", "datasets--")):
        return cache / "blobs"
    return None


def _ignored(root: Path) -> bool:
    return (root / IGNORE_FILE).is_file()


def _read_ignore(root: Path) -> pathspec.GitIgnoreSpec | None:
    if not _ignored(root):
        return None
    try:
        return pathspec.GitIgnoreSpec.from_lines((root / IGNORE_FILE).read_text("utf-8").splitlines())
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{IGNORE_FILE} cannot be read: {error}", code="bad-ignore-file") from error


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "the current folder, which was removed"


def _special(path: Path, mode: int) -> InvalidInput:
    kind = _SPECIAL.get(stat.S_IFMT(mode), "a special file")
    return InvalidInput(
        f"{path.name!r} is {kind}, which has no bytes to keep",
        code="special-file",
        path=path.name,
        hint=f"remove it or leave it out with {IGNORE_FILE}",
    )


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot read {path}: {error.strerror}", code="unreadable")
