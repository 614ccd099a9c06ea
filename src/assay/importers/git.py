"""Reading a git repository that is one model: tags and branch heads, or every commit, with git-lfs's large files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from assay.errors import InvalidInput, NotFound
from assay.importers.git_plumbing import Git, GitEntry, readable
from assay.ports.importers import Checksum, Files, Offered
from assay.spec.paths import check_path, check_together

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\n(?:[^\n]*\n)*?size (\d+)\n"
)
_MAX_POINTER = 1024
_SHA1_DIGITS = 40
"""A repository may name its objects by SHA-256 of the same bytes instead; nothing is compared then."""
_HOUSEKEEPING = frozenset({".gitattributes", ".gitignore", ".gitmodules"})


@dataclass(frozen=True, slots=True)
class GitRepository:
    """A repository that is one model (a Hugging Face clone): every tag and branch head is a version.

    Args:
        folder: the working tree or a bare repository.
        model: how the model is called; the folder's name when None.
        commits: whether every commit of the branch that is checked out is a version.
    """

    folder: Path
    model: str | None = None
    commits: bool = False
    system: str = "git"

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def offered(self) -> Iterator[Offered]:
        """Every chosen commit, oldest first; a tag or branch is an alias of its commit.

        Raises:
            NotFound: it is no repository, or has no commit (code ``import-source-missing``).
        """
        git = Git(self.folder)
        git.check()
        names: dict[str, list[str]] = {}
        for ref in (*git.refs("tags"), *git.refs("heads")):
            names.setdefault(ref.commit, []).append(ref.name)
        head = git.head()
        if head is None and not names:
            raise NotFound(f"{self.folder} has no commit", code="import-source-missing", hint="commit something first")
        wanted = [*names, *([head] if head else [])]
        if self.commits and head:
            wanted += git.text("rev-list", head).split()
        for commit in git.commits(wanted):
            yield Offered(
                model=self.model or self.folder.resolve().name.removesuffix(".git"),
                label=commit.id,
                created=commit.date,
                actor=commit.author,
                note=commit.subject or None,
                aliases=tuple(map(readable, names.get(commit.id, ()))),
                where=f"{self.folder} at {commit.id[:12]}",
                open=partial(files_of_commit, git, commit.id),
            )


@contextmanager
def files_of_commit(git: Git, commit: str) -> Iterator[Files]:
    """The files of a commit in a temporary folder; large ones where git-lfs keeps them."""
    entries = [entry for path, entry in git.entries(commit).items() if Path(path).name not in _HOUSEKEEPING]
    with materialised(git, entries) as files:
        yield files


@contextmanager
def materialised(git: Git, entries: list[GitEntry], *, under: str = "") -> Iterator[Files]:
    """Some files of a commit.

    Args:
        git: the repository.
        entries: which.
        under: folder that entry paths are counted from.

    Raises:
        NotFound: the bytes of a large file are not here (code ``location-missing``).
        InvalidInput: a path that no artifact may hold, or nothing to import.
    """
    paths: dict[str, Path] = {}
    checksums: dict[str, Checksum] = {}
    with TemporaryDirectory(prefix="assay-git-") as scratch:
        written = {
            check_path(entry.path.removeprefix(under)): (entry, Path(scratch) / str(number))
            for number, entry in enumerate(entries)
        }
        if not written:
            raise InvalidInput("there are no files in it", code="empty-tree", hint="import another commit")
        check_together(written)
        git.write(written.values())
        large = git.lfs()
        for name, (entry, file) in written.items():
            pointed = _pointed(file, large) if entry.size <= _MAX_POINTER else None
            if pointed is None:
                paths[name] = file
                if len(entry.object) == _SHA1_DIGITS:
                    checksums[name] = Checksum("git-sha1", entry.object)
                continue
            paths[name], size = pointed
            checksums[name] = Checksum("sha256", paths[name].name)
            if not paths[name].is_file() or paths[name].stat().st_size != size:
                raise NotFound(
                    f"the bytes of {entry.path} are not here: git-lfs has not fetched {paths[name].name[:12]}…",
                    code="location-missing",
                    hint="git lfs fetch --all, then import again",
                )
        yield Files(dict(sorted(paths.items())), checksums)


def _pointed(file: Path, lfs: Path) -> tuple[Path, int] | None:
    """The file that a git-lfs pointer stands for, and its size."""
    found = _POINTER.match(file.read_bytes())
    if found is None:
        return None
    oid = found[1].decode()
    return lfs / oid[:2] / oid[2:4] / oid, int(found[2])
