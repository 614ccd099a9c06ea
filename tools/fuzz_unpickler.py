"""What the real C unpickler would resolve: its names are recorded, and nothing behind them exists.

The unpickler runs in a process of its own. ``find_class`` notes the name and gives an inert stand-in, an audit hook
refuses everything else a stream might reach (imports, files, sockets, processes), and memory and time are bounded.
Run as a script this file is that process; ``Unpickler`` talks to it.
"""

from __future__ import annotations

import contextlib
import json
import select
import struct
import subprocess
import sys
from pathlib import Path
from typing import Self

SECONDS = 5
"""Longer than this, and the process is ended and started afresh."""
MEMORY = 512 << 20
STREAMS = 8
"""Pickles behind one another that are read from one input."""

Names = frozenset[tuple[str, str]]


class Unpickler:
    """A long-lived locked-down process; started at the first question, and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def names(self, data: bytes) -> Names | None:
        """Every name the streams in *data* resolve, also before they break; None when that could not be found out."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            ready = select.select([process.stdout], [], [], SECONDS)[0]
            line = process.stdout.readline() if ready else b""
            return frozenset((module, name) for module, name in json.loads(line))
        except (OSError, ValueError):
            self.close()
            return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
        )
        assert self._process.stdout
        self._process.stdout.readline()  # it answers once by itself when it is ready
        return self._process


def _serve() -> None:
    import _compat_pickle
    import collections
    import io
    import pickle
    import resource

    seen: list[tuple[str, str]] = []

    class Inert:
        """Stands for every class, function and object; all it does is not to fail."""

        def __new__(cls, *_: object, **__: object) -> Self:
            return object.__new__(cls)

        def __setstate__(self, state: object) -> None:
            """Take any state."""

        def __setitem__(self, key: object, value: object) -> None:
            """Take any item."""

        def append(self, value: object) -> None:
            """Take any value."""

        extend = add = append

    real = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        **{
            (module, kind.__name__): kind
            for module in ("builtins", "__builtin__")
            for kind in (set, frozenset, list, tuple, dict, str, bytes, bytearray)
        },
    }

    class Recorder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            seen.append((module, name))
            return real.get((module, name), Inert)

        def persistent_load(self, _: object) -> object:
            return Inert()

    def modern(module: str, name: str) -> tuple[str, str]:
        """What protocols 0 to 2 mean by a name of Python 2."""
        if (module, name) in _compat_pickle.NAME_MAPPING:
            return _compat_pickle.NAME_MAPPING[module, name]
        return _compat_pickle.IMPORT_MAPPING.get(module, module), name

    def answer(data: bytes) -> None:
        ways = [(encoding, io.BytesIO(data)) for encoding in ("ASCII", "utf-8", "bytes")]
        # A file that lets be looked ahead is read in other pieces than one that does not.
        for encoding, file in [*ways, ("ASCII", io.BufferedReader(io.BytesIO(data)))]:
            with contextlib.suppress(BaseException):
                for _ in range(STREAMS):
                    Recorder(file, encoding=encoding).load()
        found = sorted({modern(*pair) for pair in seen})
        seen.clear()
        sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")
        sys.stdout.buffer.flush()

    answer(pickle.dumps(collections.OrderedDict()))  # everything imports what it needs before the doors are shut
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    locked = "the process is locked"

    def refuse(event: str, _: object) -> None:
        if event.partition(".")[0] not in {"object", "sys", "cpython", "gc"}:
            raise RuntimeError(locked)

    sys.addaudithook(refuse)
    while len(head := sys.stdin.buffer.read(4)) == 4:
        answer(sys.stdin.buffer.read(struct.unpack("<I", head)[0]))


if __name__ == "__main__":
    _serve()
