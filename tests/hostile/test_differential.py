"""The C unpickler, in a process of its own and resolving nothing, never names what our verdict did not.

The child replaces ``find_class``: names are written down and an inert class is handed out, so nothing is imported.
"""

from __future__ import annotations

import base64
import json
import pickle
import random
import subprocess
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator

import pytest
from hostile_pickles import HOSTILE

from assay.audit.globals import entry
from assay.audit.pickles import judge
from assay.containers.pickle.parse import parse
from assay.errors import AssayError
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow

CHILD = """
import base64, io, json, pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

class Inert:
    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)
    def __init__(self, *args, **kwargs):
        pass
    def __setstate__(self, state):
        pass
    def __call__(self, *args, **kwargs):
        return Inert()
    def append(self, value):
        pass
    def extend(self, values):
        pass
    def __setitem__(self, key, value):
        pass

class Recording(pickle.Unpickler):
    def find_class(self, module, name):
        names.append([module, name])
        return Inert
    def persistent_load(self, pid):
        return Inert()

for line in sys.stdin:
    names = []
    try:
        Recording(io.BytesIO(base64.b64decode(line))).load()
        ok = True
    except BaseException as error:
        ok = False
    print(json.dumps([ok, names]), flush=True)
"""


class Child:
    """One process that answers for many streams."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def names(self, data: bytes) -> list[tuple[str, str]] | None:
        """What the C unpickler asked for, in order; None when the stream ended the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is not None:
            self.__init__()  # type: ignore[misc]
        try:
            self._process.stdin.write(base64.b64encode(data).decode() + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            return None
        return [(module, name) for module, name in json.loads(answer)[1]]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


def verdict(data: bytes) -> list[Finding] | None:
    """Findings above note; None when it is no pickle at all, which no reader takes for one."""
    window = BytesWindow(data)
    try:
        parsed = parse(window)
    except AssayError:
        return None
    return [item for item in (*parsed.findings, *judge([parsed], window)) if item.severity is not Severity.NOTE]


def present(module: str, name: str) -> tuple[str, str]:
    """What the unpickler makes of a Python 2 name after ``find_class`` was asked for it."""
    return NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = chance.choice(
                b"(.012FGIJKLMNPQRSTUVXabcdeghijlopqrstu])}BC\x80\x81\x85\x86\x93\x94" + bytes([chance.randrange(256)])
            )
        elif kind == 1:
            del changed[at : at + chance.randint(1, 6)]
        elif kind == 2:
            changed[at:at] = chance.choice(
                [b"0", b"2", b"q\0", b"h\0", b"\x94", b"(", b"1", b"N", b"\x93", b")", b"R", b"I0x1\n"]
            )
        else:
            other = chance.choice(SEEDS)
            start = chance.randrange(len(other))
            changed[at:at] = other[start : start + chance.randint(1, 40)]
    return bytes(changed)


SEEDS = [
    data
    for what, data in HOSTILE.items()
    if what not in ("deep nesting", "memo doubling", "length as bytes", "deep key")
] + [pickle.dumps({"a": [1, 2.5, (3,), {4}]}, protocol) for protocol in range(6)]


def test_no_stream_names_more_to_the_c_unpickler_than_to_us(child: Child) -> None:
    chance = random.Random(20261128)
    asked = 0
    for _ in range(4000):
        data = mutated(chance.choice(SEEDS), chance)
        names = child.names(data)
        unknown = [pair for pair in names or () if entry(*pair) is None and entry(*present(*pair)) is None]
        if unknown:
            asked += 1
            assert verdict(data) != [], (data, unknown)

    assert asked > 500
