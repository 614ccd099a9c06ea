"""What a sandboxed process may use, what really held it, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from assay.spec.json import Json


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandboxed process and its children may use.

    Args:
        seconds: of the clock, after which all of them are killed.
        cpu_seconds: of one process's computing.
        memory: bytes of private memory of one process, and of resident memory of all together.
        file_size: bytes of one file it writes.
        processes: how many there may be at once, threads included where the kernel counts them.
        files: open files per process.
        output: bytes kept of standard output and of standard error, each; what goes on after twice that is killed.
    """

    seconds: float = 300.0
    cpu_seconds: int = 1200
    memory: int = 8 << 30
    file_size: int = 64 << 30
    processes: int = 512
    files: int = 1024
    output: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was really enforced; False means that this process could do it.

    Args:
        mechanism: ``bubblewrap``, ``namespaces``, ``seccomp`` or ``none``.
        network: it had no network.
        files: it saw nothing but the interpreter, system libraries and what it was given, and could write only into
            its own folder.
        home: the person's home was not visible.
        resources: memory, computing, files and processes were limited.
    """

    mechanism: str
    network: bool = False
    files: bool = False
    home: bool = False
    resources: bool = False

    @property
    def complete(self) -> bool:
        """Whether everything was enforced."""
        return self.network and self.files and self.home and self.resources

    @property
    def missing(self) -> tuple[str, ...]:
        """What was not enforced, in words."""
        said = {
            "the network was reachable": self.network,
            "files of the system were visible": self.files,
            "the home folder was visible": self.home,
            "resources were not limited": self.resources,
        }
        return tuple(words for words, held in said.items() if not held)

    def to_json(self) -> Mapping[str, Json]:
        """The isolation as a JSON object."""
        return {
            "mechanism": self.mechanism,
            "network": self.network,
            "files": self.files,
            "home": self.home,
            "resources": self.resources,
        }


class End(StrEnum):
    """Why a process ended."""

    EXIT = "exit"
    TIME = "time"
    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sandboxed process ended.

    Args:
        exit: its exit status; 128 and the signal's number when a signal ended it.
        ended: by itself, or killed because a limit was reached.
        stdout, stderr: what it wrote, cut off at the limit.
        isolation: what was enforced.
        seconds: of the clock.
        peak_memory: most bytes that one of its processes had resident, 0 where nobody counted.
    """

    exit: int
    ended: End
    stdout: bytes
    stderr: bytes
    isolation: Isolation
    seconds: float
    peak_memory: int

    @property
    def ok(self) -> bool:
        """Whether it ended by itself and well."""
        return self.exit == 0 and self.ended is End.EXIT
