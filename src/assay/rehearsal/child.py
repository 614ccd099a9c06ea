"""The program of a rehearsal: the first thing that runs in the clean environment, in the sandbox.

Run as a script by the environment's own interpreter, so it begins with the standard library alone. It takes the time,
listens for wishes to use the network, makes this very copy of ``assay`` (and nothing that lies beside it) importable,
and hands over to ``assay.rehearsal.trying``.

    python -I -B child.py TASK REPORT     both JSON files
"""

from __future__ import annotations

import builtins
import errno
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BEGUN = time.monotonic()
_STARTTIME = 19
# Place of the start time (field 22 of proc(5)) after the name of the program, in ticks of the clock since boot.


class Stopwatch:
    """How long imports take: the outermost ones, so that nothing counts twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        builtins.__import__ = self._timed(builtins.__import__)
        importlib.import_module = self._timed(importlib.import_module)

    def _timed(self, function: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._depth:
                return function(*arguments, **named)
            self._depth += 1
            begun = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                self.seconds += time.perf_counter() - begun

        return timed


class Listener:
    """Hosts that Python code wanted to reach. It is told that there is no network, at once and whatever the sandbox."""

    def __init__(self) -> None:
        self.wanted: dict[str, None] = {}
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            self._refuse(arguments[0], arguments[1])
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = arguments[1]
            if isinstance(address, tuple) and len(address) >= 2:  # not a file of this machine
                self._refuse(address[0], address[1])
        elif event in ("socket.gethostbyname", "socket.gethostbyaddr"):
            self._refuse(arguments[0], None)

    def _refuse(self, host: Any, port: Any) -> None:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "")
        if name in ("", "localhost", "::1", "0.0.0.0") or name.startswith("127."):  # noqa: S104 - compared, not bound
            return
        if len(self.wanted) < 20:
            self.wanted[f"{name}:{port}" if port else name] = None
        raise OSError(errno.ENETUNREACH, f"a rehearsal has no network: {name}")


def since_start() -> float:
    """Seconds since this process was started, the interpreter's own start included where the system tells."""
    try:
        fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_STARTTIME]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - BEGUN
    return max(age, time.monotonic() - BEGUN)


def main(task_file: str, report_file: str) -> int:
    """Do what the task says and write what was seen."""
    task = json.loads(Path(task_file).read_text("utf-8"))
    watch, listener = Stopwatch(), Listener()
    sys.path.insert(0, task["assay"])

    def report(body: dict[str, Any]) -> None:
        scratch = Path(f"{report_file}.part")
        scratch.write_text(json.dumps({**body, "network": list(listener.wanted)}), "utf-8")
        scratch.replace(report_file)  # whole at any moment: the model's own code may end the process

    try:
        attempt = importlib.import_module("assay.rehearsal.trying").attempt
    except ImportError as error:
        body: dict[str, Any] = {
            "failure": {"kind": "loader", "message": str(error), "module": error.name or "", "during": "start"}
        }
    else:
        body = attempt(task, since_start, lambda: watch.seconds, report)
    report({**body, "done": True})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
