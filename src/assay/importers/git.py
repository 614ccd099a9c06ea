"""Reading a git repository: tags, branches, and the files of a commit, without a checkout.

Only plumbing that reads objects is called. A repository may come from anywhere, and its configuration can name programs
to run: filters and hooks are never reached this way, and every protocol by which git could fetch what is missing is
switched off.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from assay.errors import BadFormat, InvalidInput, MissingDependency, NotFound
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
_SAFE = ("-c", "protocol.allow=never", "-c", "core.fsmonitor=false", "-c", "safe.directory=*")


@dataclass(frozen=True, slots=True)
class GitEntry:
    """One file of a commit: its object and size."""

    path: str
    object: str
    size: int


@dataclass(frozen=True, slots=True)
class GitRef:
    """A tag or branch.

    Args:
        name: without ``refs/tags/`` or ``refs/heads/``.
        commit: the commit it leads to.
        made: when the tag was made, or the commit; UTC.
        tagger: who made it; empty when it is not known.
    """

    name: str
    commit: str
    made: datetime
    tagger: str = ""


class Git:
    """One repository, read through ``git``.

    Args:
        folder: the working tree or a bare repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Make sure that it is a repository.

        Raises:
            NotFound: it is none (code ``import-source-missing``).
            MissingDependency: there is no ``git`` on this machine.
        """
        if not self.folder.is_dir():
            raise NotFound(f"no such folder: {self.folder}", code="import-source-missing")
        try:
            self.text("rev-parse", "--git-dir")
        except BadFormat as error:
            raise NotFound(f"{self.folder} is no git repository", code="import-source-missing") from error

    def text(self, *arguments: str) -> str:
        """What a git command prints.

        Raises:
            BadFormat: it failed (code ``git-failed``).
            MissingDependency: there is no ``git`` on this machine.
        """
        return self.output(*arguments).decode("utf-8", "surrogateescape")

    def output(self, *arguments: str) -> bytes:
        """The same, as bytes."""
        done = self._run(arguments, subprocess.PIPE)
        return done.stdout

    def write(self, entry: GitEntry, file: Path) -> None:
        """Write the bytes of a file of a commit, streaming."""
        with file.open("wb") as out:
            self._run(("cat-file", "blob", entry.object), out.fileno())

    def refs(self, kind: str) -> list[GitRef]:
        """Tags (``tags``) or branches (``heads``), oldest first."""
        form = "%(refname)%00%(objectname)%00%(*objectname)%00%(creatordate:unix)%00%(taggername)"
        found = []
        for line in self.text("for-each-ref", f"--format={form}", f"refs/{kind}").splitlines():
            name, direct, peeled, date, tagger = line.split("\0")
            made = datetime.fromtimestamp(int(date or 0), UTC)
            found.append(GitRef(name.removeprefix(f"refs/{kind}/"), peeled or direct, made, tagger))
        return sorted(found, key=lambda ref: (ref.made, ref.name))

    def branch(self) -> str | None:
        """The branch that is checked out."""
        try:
            return self.text("symbolic-ref", "--quiet", "--short", "HEAD").strip() or None
        except BadFormat:
            return None

    def entries(self, commit: str) -> dict[str, GitEntry]:
        """Every file of a commit; links and submodules are left out."""
        found = {}
        for line in self.output("ls-tree", "-r", "-z", "--long", commit).split(b"\0"):
            if not line:
                continue
            facts, _, path = line.partition(b"\t")
            mode, kind, oid, size = facts.split()
            if kind == b"blob" and mode != b"120000":
                name = path.decode("utf-8", "surrogateescape")
                if not size.isdigit():
                    raise NotFound(
                        f"the bytes of {name} are not in the repository {self.folder} (object {oid.decode()[:12]})",
                        code="location-missing",
                        hint="git fsck says what is damaged; a partial clone needs git fetch --refetch",
                    )
                found[name] = GitEntry(name, oid.decode(), int(size))
        return found

    def read(self, commit: str, path: str, limit: int = 16 << 20) -> bytes | None:
        """A small file of a commit; None when it is not there.

        Raises:
            BadFormat: it is larger than *limit*.
        """
        line = self.output("ls-tree", "-z", "--long", commit, "--", path).strip(b"\0")
        if not line:
            return None
        facts = line.partition(b"\t")[0].split()
        if facts[1] != b"blob" or not facts[3].isdigit():
            return None
        if int(facts[3]) > limit:
            raise BadFormat(f"{path} of commit {commit[:12]} has {int(facts[3]):,} bytes, at most {limit:,} are read")
        return self.output("cat-file", "blob", facts[2].decode())

    @property
    def lfs(self) -> Path:
        """Where large files lie that git itself does not keep."""
        return self.folder / self.text("rev-parse", "--git-common-dir").strip() / "lfs" / "objects"

    def _run(self, arguments: tuple[str, ...], out: int) -> subprocess.CompletedProcess[bytes]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        environment |= {
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "LC_ALL": "C",
        }
        command = ["git", "-C", str(self.folder), *_SAFE, *arguments]
        try:
            done = subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                env=environment,
                check=False,
            )
        except FileNotFoundError as error:
            raise MissingDependency("reading a git repository needs git", hint="install git") from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BadFormat(
                f"git {arguments[0]} failed in {self.folder}: {said[-1] if said else done.returncode}",
                code="git-failed",
            )
        return done


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
        if not names:
            raise NotFound(f"{self.folder} has no commit", code="import-source-missing")
        listed = git.text("rev-list", "HEAD").split() if self.commits else []
        wanted = list(dict.fromkeys([*names, *listed]))
        order = git.text("rev-list", "--date-order", "--reverse", *wanted).split()
        chosen = set(wanted)
        for commit in (found for found in order if found in chosen):
            author, date, subject = git.text("log", "-1", "--format=%an%x00%cI%x00%s", commit).strip("\n").split("\0")
            yield Offered(
                model=self.model or self.folder.resolve().name.removesuffix(".git"),
                label=commit,
                created=_utc(date),
                actor=author,
                note=subject or None,
                aliases=tuple(names.get(commit, ())),
                where=f"{self.folder} at {commit[:12]}",
                open=partial(files_of_commit, git, commit),
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
        for number, entry in enumerate(entries):
            name = check_path(entry.path.removeprefix(under))
            file = Path(scratch) / str(number)
            git.write(entry, file)
            pointed = _pointed(file, git.lfs) if entry.size <= _MAX_POINTER else None
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
        if not paths:
            raise InvalidInput("there are no files in it", code="empty-tree")
        check_together(paths)
        yield Files(dict(sorted(paths.items())), checksums)


def _pointed(file: Path, lfs: Path) -> tuple[Path, int] | None:
    """The file that a git-lfs pointer stands for, and its size."""
    found = _POINTER.match(file.read_bytes())
    if found is None:
        return None
    oid = found[1].decode()
    return lfs / oid[:2] / oid[2:4] / oid, int(found[2])


def _utc(date: str) -> str:
    return datetime.fromisoformat(date).astimezone(UTC).isoformat().replace("+00:00", "Z")
