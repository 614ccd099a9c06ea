"""Asking git: tags, branches, commits and the files of a commit, without a checkout.

Only plumbing that reads objects is called. A repository may come from anywhere, and its configuration can name programs
to run: filters and hooks are never reached this way, and every protocol by which git could fetch what is missing is
switched off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from assay.errors import BadFormat, LimitExceeded, MissingDependency, NotFound, StorageError

_MAX_SAID = 16 << 10
_CHUNK = 1 << 20
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


@dataclass(frozen=True, slots=True)
class GitCommit:
    """A commit.

    Args:
        id: its object.
        author: a name.
        date: when it was committed, RFC 3339.
        subject: first line of its message.
    """

    id: str
    author: str
    date: str
    subject: str


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

    def text(self, *arguments: str, given: str = "") -> str:
        """What a git command prints.

        Args:
            arguments: of git.
            given: what it reads.

        Raises:
            BadFormat: it failed (code ``git-failed``).
            MissingDependency: there is no ``git`` on this machine.
        """
        return self.output(*arguments, given=given).decode("utf-8", "surrogateescape")

    def output(self, *arguments: str, given: str = "") -> bytes:
        """The same, as bytes."""
        done = subprocess.run(  # noqa: S603
            self._command(arguments),
            input=given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=_environment(),
            check=False,
        )
        if done.returncode != 0:
            raise self._failed(arguments[0], done.stderr)
        return done.stdout

    def write(self, entries: Iterable[tuple[GitEntry, Path]]) -> None:
        """Write files of commits, one process for all of them, a portion at a time.

        Raises:
            BadFormat: an object cannot be read (code ``git-failed``).
            StorageError: the file cannot be written.
        """
        with TemporaryFile() as said, self._reader(said) as process:
            assert process.stdin is not None  # for the type checker: both are pipes
            assert process.stdout is not None
            for entry, file in entries:
                process.stdin.write(entry.object.encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline().split()
                if answer[1:] != [b"blob", str(entry.size).encode()]:
                    said.seek(0)
                    raise self._failed("cat-file", said.read(_MAX_SAID))
                _copy(process.stdout, file, entry.size)
                process.stdout.read(1)

    @contextmanager
    def _reader(self, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(  # noqa: S603
            self._command(("cat-file", "--batch")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=_environment(),
        )
        try:
            yield process
        except BrokenPipeError as error:
            said.seek(0)
            raise self._failed("cat-file", said.read(_MAX_SAID)) from error
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()

    def refs(self, kind: str) -> list[GitRef]:
        """Tags (``tags``) or branches (``heads``) of commits, oldest first; a tag may name something else."""
        form = "%(refname)%00%(creatordate:unix)%00%(taggername)"
        # A line ends with a line feed alone: names may hold what Python takes for other ends of lines.
        lines = self.text("for-each-ref", f"--format={form}", f"refs/{kind}").split("\n")[:-1]
        named = [line.split("\0") for line in lines]
        # git itself follows a tag of a tag, which for-each-ref's own format does one step far.
        asked = "".join(f"{name}^{{commit}}\n" for name, _, _ in named)
        answers = self.text("cat-file", "--batch-check=%(objectname) %(objecttype)", given=asked).split("\n")
        found = []
        for (name, date, tagger), answer in zip(named, answers[:-1], strict=True):
            commit, _, what = answer.rpartition(" ")
            if what == "commit":
                found.append(GitRef(name.removeprefix(f"refs/{kind}/"), commit, _moment(date), tagger))
        return sorted(found, key=lambda ref: (ref.made, ref.name))

    def commits(self, wanted: Iterable[str]) -> list[GitCommit]:
        """What commits say of themselves, each after those that it was made from."""
        chosen = list(dict.fromkeys(wanted))
        given = "".join(f"{commit}\n" for commit in chosen)
        order = self.text("rev-list", "--date-order", "--reverse", "--stdin", given=given).split()
        kept = set(chosen)
        form = "%H%x00%an%x00%ct%x00%s"
        # Settings of the repository or the person could add words, or run a program that checks signatures.
        lines = self.text(
            "log", "--no-walk=unsorted", "--no-show-signature", "--no-color", "--encoding=UTF-8", "--stdin",
            f"--format={form}", given="".join(f"{commit}\n" for commit in order if commit in kept),
        ).split("\n")[:-1]  # fmt: skip
        found = []
        for line in lines:
            commit, author, date, subject = line.split("\0")
            found.append(GitCommit(commit, readable(author), _rfc3339(_moment(date)), readable(subject)))
        return found

    def head(self) -> str | None:
        """The commit that is checked out; None when there is none yet."""
        answer = self.text("cat-file", "--batch-check=%(objectname) %(objecttype)", given="HEAD^{commit}\n")
        commit, _, what = answer.strip().rpartition(" ")
        return commit if what == "commit" else None

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

    def read(self, entry: GitEntry, limit: int) -> bytes:
        """A small file of a commit.

        Raises:
            BadFormat: it is larger than *limit* (code ``limit-exceeded``).
        """
        if entry.size > limit:
            raise LimitExceeded(f"{entry.path} has {entry.size:,} bytes, at most {limit:,} are read")
        return self.output("cat-file", "blob", entry.object)

    def lfs(self) -> Path:
        """Where large files lie that git itself does not keep."""
        return self.folder / self.text("rev-parse", "--git-common-dir").strip() / "lfs" / "objects"

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        git = shutil.which("git")
        if git is None:
            raise MissingDependency("reading a git repository needs git", hint="install git")
        return [git, "-C", str(self.folder), *_SAFE, *arguments]

    def _failed(self, command: str, said: bytes) -> BadFormat:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return BadFormat(
            f"git {command} failed in {self.folder}: {lines[-1] if lines else 'it says no more'}",
            code="git-failed",
            hint=f"git -C {self.folder} fsck says what is damaged",
        )


def _copy(source: IO[bytes], file: Path, size: int) -> None:
    try:
        with file.open("wb") as out:
            while size > 0 and (data := source.read(min(_CHUNK, size))):
                out.write(data)
                size -= len(data)
    except OSError as error:
        raise StorageError.of(error, "cannot write a temporary file") from error
    if size:
        raise BadFormat("git cat-file stopped in the middle of a file", code="git-failed")


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | {
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }


def _moment(seconds: str) -> datetime:
    """A time that git wrote down; the first of all where it is none that can be."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def readable(text: str) -> str:
    """A text that may not have been UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
