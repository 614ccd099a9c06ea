"""An archive without findings is one archive to every reader: the standard library's, and one that reads forward."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import warnings
import zipfile
import zlib

import pytest
from hostile_archives import Entry, state_dict, tar_of, zip_of

from assay.audit.archives import expand, zip_findings
from assay.containers.archive import Archive
from assay.errors import AssayError
from assay.spec.finding import Severity
from assay.trees import BytesWindow, Tree

Seen = dict[str, bytes]


def ours(data: bytes) -> Seen | None:
    """What we see, when there is nothing to say against it."""
    try:
        archive = Archive(BytesWindow(data, "m"))
        findings = zip_findings(archive)
        seen = {member.name: archive.read(member.name) for member in archive.members}
    except AssayError:
        return None
    return seen if all(finding.severity is Severity.NOTE for finding in findings) else None


def standard(data: bytes) -> Seen:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forward(data: bytes) -> Seen:
    """A reader that follows local headers from the beginning, as streaming ones do."""
    position, seen = 0, {}
    while data[position : position + 4] == b"PK\3\4":
        _, _, flags, method, _, _, _, packed, _, name, extra = struct.unpack_from("<4s5H3L2H", data, position)
        position += 30
        label = data[position : position + name].decode("utf-8" if flags & 0x800 else "cp437")
        position += name + extra
        if method == 8:
            inflater = zlib.decompressobj(-15)
            seen[label] = inflater.decompress(data[position:])
            position = len(data) - len(inflater.unused_data)
        else:
            assert not flags & 8
            seen[label] = data[position : position + packed]
            position += packed
        if flags & 8:
            position = data.index(b"PK", position + 4)
        while data[position : position + 1] == b"\0":
            position += 1
    return seen


BASES = [
    zip_of(state_dict()),
    zip_of(state_dict(), comment=b"a word"),
    zip_of([Entry(b"a.txt", b"words " * 9, method=8), Entry(b"d/b", b"x" * 40), Entry("é".encode(), b"1", method=8)]),
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2))):
        place = chance.randrange(len(out))
        if chance.random() < 0.6:
            out[place] = chance.choice((0, 1, 8, 0xFF, 0x50, chance.randrange(256)))
        elif chance.random() < 0.5:
            del out[place : place + chance.randrange(1, 30)]
        else:
            other = chance.randrange(len(out))
            out[place:place] = out[other : other + chance.randrange(1, 80)]
    return bytes(out)


@pytest.mark.parametrize("base", BASES, ids=["torch", "comment", "deflated"])
def test_the_honest_archive_is_the_same_to_all_readers(base: bytes) -> None:
    assert ours(base) == standard(base) == forward(base)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_archive_has_findings_or_is_the_same_to_all_readers(seed: int) -> None:
    chance = random.Random(seed)
    passed = 0
    for _ in range(1500):
        data = mutated(chance.choice(BASES), chance)
        seen = ours(data)
        if seen is not None:
            passed += 1
            assert seen == standard(data) == forward(data)
    assert passed  # some changes (a time, an attribute) change nothing


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_tar_has_findings_or_is_what_the_standard_library_sees(seed: int) -> None:
    chance = random.Random(seed)
    base = tar_of(("a.txt", b"words"), ("d/b.bin", bytes(600)), ("l" * 150, b"x"))
    for _ in range(1500):
        place = chance.randrange(3600)
        data = base[:place] + bytes([chance.randrange(256)]) + base[place + 1 :]
        found = expand(Tree.of({"m": data}), "m")
        if found is None or any(finding.severity is not Severity.NOTE for finding in found.findings):
            continue
        with warnings.catch_warnings(), tarfile.open(fileobj=io.BytesIO(data)) as archive:
            warnings.simplefilter("ignore")
            names = sorted(member.name for member in archive.getmembers() if member.isfile())
        assert list(found.tree.paths) == names
