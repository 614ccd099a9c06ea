"""Trying a version: its files laid out for a command of the person's own, and that command run in the caller's folder.

The files are a private copy (cloned where the file system can, verified on the way), so that whatever the command does
to them stays in it; or, on request, read-only hard links to the store. They lie in the home, where clones and links can
be made, else in the system's folder for temporary files, and are removed at the end. What a killed process left behind
is removed by the next one.

    HOME/trials/
      <random>/     locked as long as its process lives
        NAME/       the files
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from assay.errors import CouldNot, InvalidInput
from assay.policy.policy import Gate
from assay.ports.progress import SILENT, Progress
from assay.sandbox.processes import descendants
from assay.service import fetch
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.service.scan import admit
from assay.spec.records import Version
from assay.wiring.places import AUDITS

TRIALS = "trials"
"""Folder in a home for what commands try."""
_PLACE = re.compile(r"\{(path|file|ref|reference|name|version|digest)\}")
_GRACE = 1.0
"""Seconds that a command has to end by itself after an interrupt."""
_POLL = 0.1
"""Seconds between two looks at whether a command that prints nothing has ended."""
_LINE = 1 << 20
"""Bytes of a line of output that are kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A version whose files lie ready.

    Args:
        version: which.
        folder: its files, as a pull writes them.
        home: the registry's folder.
    """

    version: Version
    folder: Path
    home: str

    def arguments(self, command: Sequence[str]) -> list[str]:
        """*command* with what stands in braces filled in; other braces are the command's own.

        Raises:
            InvalidInput: ``{file}`` is asked for, and there is not exactly one (code ``no-single-file``).
        """
        return [_PLACE.sub(lambda found: self._value(found[1]), argument) for argument in command]

    def environ(self, prefix: str) -> dict[str, str]:
        """This process's environment, the home, and the same values as ``PREFIX_PATH`` and so on."""
        names = ("path", "reference", "name", "version", "digest")
        values = {f"{prefix}_{name.upper()}": self._value(name) for name in names}
        return {**os.environ, "ASSAY_HOME": self.home, **values}

    def _value(self, name: str) -> str:
        if name == "path":
            return str(self.folder)
        if name == "file":
            return str(self._only_file())
        values: Mapping[str, object] = {
            "ref": self.version.reference,
            "reference": self.version.reference,
            "name": self.version.name,
            "version": self.version.number,
            "digest": self.version.manifest,
        }
        return str(values[name])

    def _only_file(self) -> Path:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        if len(files) != 1:
            raise InvalidInput(
                f"{{file}} stands for the only file of a version, and {self.version.reference} has {len(files)}",
                code="no-single-file",
                hint="{path} stands for the folder of its files",
            )
        return files[0]


@contextmanager
def laid_out(
    registry: Registry, version: Version, guard: Guard, *, link: bool = False, progress: Progress = SILENT
) -> Iterator[Trial]:
    """The files of a version in a folder of their own, which is gone afterwards.

    Args:
        registry: where from.
        version: which.
        guard: the policies; the files have to pass the gate of a pull.
        link: read-only hard links to the store instead of copies: instant, but a command that writes to them in spite
            of their mode damages the store.
        progress: hears about bytes written.

    Raises:
        Refused: the policies do not let it be pulled.
        NotFound, IntegrityError: its bytes are missing or damaged.
        InvalidInput: hard links cannot be made (code ``cannot-link``).
        StorageError: the files cannot be written.
    """
    admit(registry, version, guard, Gate.PULL, memory=registry.state / AUDITS)
    with _scratch(registry.state / TRIALS) as scratch:
        folder = scratch / version.name.rpartition("/")[2]
        fetch.pull(registry, version, folder, link=link, progress=progress)
        yield Trial(version, folder, registry.place)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command here; what it prints goes to standard error.

    Returns:
        Its exit status; negative when a signal ended it.

    Raises:
        CouldNot: it cannot be started (code ``command-not-started``).
    """
    try:
        process = subprocess.Popen(arguments, env=environ, stdout=sys.stderr)  # noqa: S603 - the person's own
    except (OSError, ValueError) as error:
        raise _not_started(arguments, error) from error
    with process:
        try:
            return process.wait()
        except BaseException:
            _stop(process)
            raise


def run_for_line(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """As ``run``; with the last line that the command printed which is not empty.

    Raises:
        As ``run``.
    """
    try:
        process = subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE)  # noqa: S603 - the person's own
    except (OSError, ValueError) as error:
        raise _not_started(arguments, error) from error
    with process:
        try:
            last = _relay(process)
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
    return status, last


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything it started: a terminal has told them, but a shell may go on with its next line."""
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(_GRACE)
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # it starts nothing more while its descendants are counted
    for one in descendants(process.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)
    process.kill()


def _relay(process: subprocess.Popen[bytes]) -> str:
    """Pass a command's output on to standard error; its last line."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last, begun = b"", b""
    while part := _more(process):
        sys.stderr.write(decoder.decode(part))
        sys.stderr.flush()
        *lines, begun = (begun + part).split(b"\n")
        begun = begun[-_LINE:]
        last = next((line for line in reversed(lines) if line.strip()), last)
    return (begun if begun.strip() else last)[-_LINE:].decode("utf-8", "replace").strip()


def _more(process: subprocess.Popen[bytes]) -> bytes:
    """What a command printed meanwhile; empty at the end: what it left running may hold its output open for ever."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            if ready.select(0 if ended else _POLL):
                return os.read(process.stdout.fileno(), 1 << 16)
            if ended:
                return b""


def _not_started(arguments: Sequence[str], error: OSError | ValueError) -> CouldNot:
    command = arguments[0]
    reason, hint = str(error), None
    if isinstance(error, OSError):
        reason = (error.strerror or reason).lower()
        hint = {
            errno.ENOENT: "it is looked for in PATH, or from the current folder when it has a slash: ./evaluate.sh; "
            "a script's first line must name an interpreter that exists",
            errno.EACCES: f"chmod +x {command} makes it a program; or name its interpreter: sh {command}",
            errno.ENOEXEC: "a script's first line must name its interpreter: #!/bin/sh",
        }.get(error.errno or 0)
    return CouldNot(f"cannot run {command!r:.200}: {reason}", code="command-not-started", hint=hint)


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder, lock = _locked(home)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _locked(home: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        try:
            home.mkdir(exist_ok=True)
            _sweep(home)
            folder = Path(tempfile.mkdtemp(prefix="", dir=home))
        except OSError:  # a home that may only be read
            folder = Path(tempfile.mkdtemp(prefix="assay-"))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # else another process swept it away before it was locked
            return folder, lock
        os.close(lock)


def _sweep(home: Path) -> None:
    """Remove what processes left behind that were killed: their folders are not locked any more."""
    for left in home.iterdir():
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder although the command may have taken the right to write from folders in it."""
    for parent, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
