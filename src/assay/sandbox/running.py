"""Run one program in a sandbox: bubblewrap where it is installed, else namespaces, else what the kernel offers.

The process gets no network, an empty home, a scrubbed environment, limited resources, and sees nothing but the
interpreter, system libraries, what it is given to read and one folder to write in. Where the system does not allow some
of this, the outcome's ``isolation`` says so: whoever needs all of it looks there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from assay.sandbox.processes import alive, children, descendants, resident
from assay.sandbox.values import End, Isolation, Limits, Outcome

_CHILD = Path(__file__).with_name("child.py")
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
_CONFIGURATION = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/alternatives")
_PROCESSORS = "/sys/devices/system/cpu"
DEFAULT = Limits()
_TICK = 0.02
_OURS = 4
# Processes of ours around the program, beside which the kernel's own limit comes first.

MECHANISMS = ("bubblewrap", "namespaces", "none")
"""Ways to isolate, most wanted first. ``none`` still limits resources and, on Linux, refuses sockets."""


def python(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module by this interpreter, deaf to the environment and the user's site."""
    return [sys.executable, "-I", "-B", "-X", "utf8", "-m", module, *arguments]


def run(
    arguments: Sequence[str],
    *,
    readable: Sequence[Path],
    writable: Path,
    limits: Limits = DEFAULT,
    environment: Mapping[str, str] | None = None,
    mechanism: str | None = None,
) -> Outcome:
    """Run a program to its end.

    Args:
        arguments: absolute path of the program, and what follows it.
        readable: files and folders it may read, beside this interpreter with its libraries.
        writable: the folder it starts in and may write in.
        limits: what it may use.
        environment: variables it gets beside a handful of harmless ones; none of ours is passed on.
        mechanism: one of ``MECHANISMS``; the first that works when None.

    Returns:
        How it ended, and what was enforced. A program that cannot be started ends with status 126.
    """
    # As root, bubblewrap leaves its processes uncounted.
    chosen = mechanism or ("bubblewrap" if _bubblewrap() and os.geteuid() != 0 else "namespaces")
    places = _Places(tuple(readable), writable)
    with tempfile.TemporaryDirectory(prefix="assay-sandbox-") as scratch:
        places.make(Path(scratch))
        outcome, said = _once(chosen, arguments, places, limits, environment or {})
        if not said and mechanism is None and chosen == "bubblewrap":
            # It is installed and may not do its work here; the program has not begun.
            chosen = "namespaces"
            outcome, said = _once(chosen, arguments, places, limits, environment or {})
    return Outcome(isolation=_isolation(chosen, said, places), **outcome)


def _once(
    chosen: str, arguments: Sequence[str], places: _Places, limits: Limits, environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run it by one mechanism; how it ended, and what its first process said, which is nothing if it never ran."""
    status, report = os.pipe()
    spec: dict[str, Any] = {
        "mode": {"bubblewrap": "inner", "namespaces": "namespaces"}.get(chosen, "plain"),
        "parent": os.getpid(),
        "status": report,
        "limits": {key: value for key, value in asdict(limits).items() if key not in ("seconds", "output")},
        "arguments": list(arguments),
        "environment": {**places.environment(), **environment},
        "folder": str(places.folder),
        **places.mounts(),
    }
    child = [sys.executable, "-I", "-S", "-B", str(_CHILD), json.dumps(spec)]
    command = [*places.bubblewrap(), *child] if chosen == "bubblewrap" else child
    try:
        return _watch(command, places, limits, status, report)
    finally:
        os.close(status)


class _Places:
    """Which paths the process sees.

    Args:
        readable: what it may read.
        writable: where it may write.
    """

    def __init__(self, readable: tuple[Path, ...], writable: Path) -> None:
        self.folder = writable.absolute()
        self._given = writable
        self.writable: tuple[str, ...] = ()
        runtime = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent, _CHILD]
        imported = [*map(Path, site.getsitepackages()), Path(__file__).parent.parent]
        system = [Path(text) for text in (*_SYSTEM, *_CONFIGURATION, _PROCESSORS)]
        self.readable = _outermost(_both((*system, *runtime, *imported, *readable)))

    def make(self, scratch: Path) -> None:
        """Make a home, a place for temporary files and a root in a folder of our own."""
        self.root, self.home, self.temporary = (scratch / name for name in ("root", "home", "tmp"))
        for folder in (self.root, self.home, self.temporary):
            folder.mkdir()
        self.writable = _both((self._given, self.home, self.temporary))

    def environment(self) -> dict[str, str]:
        """The variables it gets."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "LANG": "C.UTF-8",
            "USER": "nobody",
            "LOGNAME": "nobody",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }

    def mounts(self) -> dict[str, Any]:
        """What the first process needs to make its root."""
        return {
            "root": str(self.root),
            "readable": [path for path in self.readable if not Path(path).is_symlink()],
            "writable": list(self.writable),
            "links": self._links(),
        }

    def bubblewrap(self) -> list[str]:
        """The command line of ``bwrap`` up to the program."""
        command = [_bubblewrap() or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        for link, target in self._links():
            command += ["--symlink", target, link]
        for path in self.mounts()["readable"]:
            command += ["--ro-bind", path, path]
        command += ["--proc", "/proc", "--dev", "/dev"]
        for path in self.writable:
            command += ["--bind", path, path]
        return [*command, "--"]

    @property
    def shows_home(self) -> bool:
        """Whether what it may read includes the person's home as a whole."""
        home = Path.home()
        return any(home.is_relative_to(path) for path in (*self.readable, *self.writable))

    def _links(self) -> list[tuple[str, str]]:
        return [(path, str(Path(path).readlink())) for path in self.readable if Path(path).is_symlink()]


def _both(paths: Sequence[Path]) -> tuple[str, ...]:
    """Absolute paths as given and as they really are; those that are not there are left out."""
    found: dict[str, None] = {}
    for path in paths:
        if path.exists():
            found[os.path.normpath(path.absolute())] = None
            found[str(path.resolve())] = None
    return tuple(found)


def _outermost(paths: Sequence[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for path in sorted(paths, key=len):
        inside = any(path == above or path.startswith(f"{above.rstrip('/')}/") for above in kept)
        # A link in the root folder is made again as a link, anything deeper is shown where it is.
        if not inside and not (Path(path).is_symlink() and Path(path).parent != Path("/")):
            kept.append(path)
    return tuple(kept)


def _bubblewrap() -> str | None:
    return shutil.which("bwrap") if sys.platform == "linux" else None


def _watch(
    command: Sequence[str], places: _Places, limits: Limits, status: int, report: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    begun = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - no shell, and the program is ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(report,),
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(places.home), "LANG": "C.UTF-8"},
        cwd="/",
    )
    os.close(report)
    streams = [_Stream(stream, limits.output) for stream in (process.stdout, process.stderr) if stream is not None]
    told = _Status(status)
    ended, peak = End.EXIT, 0
    while process.poll() is None:
        reached, count = _reached(process.pid, limits, time.monotonic() - begun, streams)
        peak = max(peak, count)
        if reached is not None:
            ended = reached
            break
        time.sleep(_TICK)
    kill(process)
    for stream in streams:
        stream.finish()
    said = told.finish()
    outcome = {
        "exit": process.returncode if process.returncode >= 0 else 128 - process.returncode,
        "ended": ended,
        "stdout": streams[0].kept,
        "stderr": streams[1].kept,
        "seconds": time.monotonic() - begun,
        "peak_memory": max(peak, int(said.get("peak", 0))),
    }
    return outcome, said


def _reached(pid: int, limits: Limits, seconds: float, streams: Sequence[_Stream]) -> tuple[End | None, int]:
    """The limit that was reached, if any, and the resident memory of all processes."""
    if seconds > limits.seconds:
        return End.TIME, 0
    if any(stream.flooded for stream in streams):
        return End.OUTPUT, 0
    family = descendants(pid)
    if len(family) > limits.processes + _OURS:
        return End.PROCESSES, 0
    memory = sum(resident(one) for one in family)
    return (End.MEMORY if memory > limits.memory else None), memory


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with everything it started, and wait for it."""
    if process.poll() is None:
        _signal(process.pid, signal.SIGSTOP)  # it must not reap, and so let go, what we are about to kill
        for one in children(process.pid):
            if _own_namespace(one):
                _signal(one, signal.SIGKILL)  # the first process of a namespace takes all others with it
        _stop_all(process.pid)
        for _ in range(400):
            family = [one for one in descendants(process.pid) if alive(one)]
            if not family:
                break
            for one in family:
                _signal(one, signal.SIGKILL)
            _signal(process.pid, signal.SIGCONT)  # orphans become its children before they can get away
            _signal(process.pid, signal.SIGSTOP)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _stop_all(pid: int) -> None:
    """Stop all descendants, so that none of them starts another while they are killed."""
    stopped: set[int] = set()
    for _ in range(100):
        fresh = [one for one in descendants(pid) if one not in stopped and alive(one)]
        if not fresh:
            return
        for one in fresh:
            _signal(one, signal.SIGSTOP)
        stopped.update(fresh)


def _own_namespace(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


class _Stream:
    """Reads a pipe to its end and keeps the beginning."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._seen = 0
        self._pieces: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def flooded(self) -> bool:
        return self._seen > 2 * self._limit

    @property
    def kept(self) -> bytes:
        return b"".join(self._pieces)[: self._limit]

    def finish(self) -> None:
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._stream.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while piece := os.read(self._stream.fileno(), 1 << 16):
                if self._seen < self._limit:
                    self._pieces.append(piece)
                self._seen += len(piece)


class _Status:
    """What the first processes say about themselves; later ones cannot: the pipe is closed for them."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._text = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, Any]:
        """Everything that was said."""
        self._thread.join(timeout=5)
        said: dict[str, Any] = {}
        for line in self._text.splitlines():
            with contextlib.suppress(ValueError):
                part = json.loads(line)
                said |= {**part, "peak": max(int(part.get("peak", 0)), int(said.get("peak", 0)))}
        return said

    def _read(self) -> None:
        while piece := os.read(self._pipe, 1 << 12):
            self._text += piece


def _isolation(chosen: str, said: Mapping[str, Any], places: _Places) -> Isolation:
    resources = bool(said.get("resources"))
    if chosen == "bubblewrap" and said:
        return Isolation("bubblewrap", True, True, not places.shows_home, resources)  # noqa: FBT003 - a value's fields
    files = bool(said.get("files"))
    named = "namespaces" if said.get("namespaces") else "seccomp" if said.get("seccomp") else "none"
    return Isolation(named, bool(said.get("network")), files, files and not places.shows_home, resources)
