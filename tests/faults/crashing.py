"""Runs one operation again and again, each time in a child that is killed (SIGKILL) one step later than the last one.

    python crashing.py OPERATION FOLDER

A step is a call that reaches the file system or the database. Run *k* works in ``FOLDER/k`` and dies right before step
*k*; the last one lives to the end, and its steps are written to ``FOLDER/steps``. The folders are left for the test to look at.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, event

from assay.blobs.directory import DirectoryStore
from assay.blobs.home import open_home
from assay.catalog.opening import open_catalog
from assay.spec.digest import Digest

CALLS = (
    "open close write pwrite fsync fdatasync ftruncate replace rename link unlink mkdir copy_file_range fchmod".split()
)
LARGE = bytes(range(256)) * (9 << 12)
"""Nine MiB: more than two blocks."""


def flushed(descriptor: object) -> str:
    """What is flushed: a folder's name, or for a file the name of the folder it is in."""
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    return path.name if path.is_dir() else f"in {path.parent.name}"


def killed_before(step: int) -> Callable[[], list[str]]:
    """Make this process die right before its step number *step*; what is returned ends that, and tells the steps."""
    lock = threading.Lock()
    steps: list[str] = []
    over = threading.Event()

    def count(name: str) -> None:
        with lock:
            if not over.is_set():
                steps.append(name)
                if len(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)

    def end() -> list[str]:
        over.set()
        return steps

    def counted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def stepping(*args: object, **kwargs: object) -> object:
            count(f"fsync {flushed(args[0])}" if name == "fsync" else name)
            return call(*args, **kwargs)

        return stepping

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    event.listen(Engine, "before_cursor_execute", lambda *args: count("sql " + args[2].split()[0]))
    event.listen(Engine, "commit", lambda *_: count("sql COMMIT"))
    return end


def add_file(folder: Path) -> None:
    DirectoryStore(folder / "home").add_file(folder / "source")


def move_file(folder: Path) -> None:
    DirectoryStore(folder / "home").add_file(folder / "source", move=True)


def add_bytes(folder: Path) -> None:
    DirectoryStore(folder / "home").add(LARGE[:100])


def make_home(folder: Path) -> None:
    open_home(folder / "home")


def add_version(folder: Path) -> None:
    home = folder / "home"
    catalog = open_catalog(home / "catalog.sqlite3", home / "journal.jsonl")
    catalog.add_version("m", Digest.of(b"second"), size=2, entries=1, actor="ada")


def prepare(operation: str, folder: Path) -> None:
    folder.mkdir()
    if operation in {"add_file", "move_file"}:
        (folder / "source").write_bytes(LARGE)
    if operation == "add_version":
        home = open_home(folder / "home")
        catalog = open_catalog(home.catalog, home.journal)
        catalog.add_version("m", Digest.of(b"first"), size=1, entries=1, actor="ada")


def main(operation: str, folder: Path) -> None:
    work = {job.__name__: job for job in (add_file, move_file, add_bytes, make_home, add_version)}[operation]
    for step in itertools.count(1):
        place = folder / str(step)
        child = os.fork()
        if child == 0:
            prepare(operation, place)
            end = killed_before(step)
            work(place)
            (folder / "steps").write_text("\n".join(end()))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return
        if not os.WIFSIGNALED(status):
            sys.exit(f"step {step}: the operation failed by itself")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
