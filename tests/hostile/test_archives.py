"""Archives that no format describes: opened as trees within bounds; what is dangerous about them is found."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import time
import zlib

import numpy as np
import pytest
from bounds import HANG
from hostile_archives import PRINTS, Entry, special, state_dict, tar_of, zip_of

from assay.audit.archives import ArchivesAuditor, Expanded, expand
from assay.audit.polyglots import PolyglotsAuditor
from assay.errors import AssayError
from assay.formats.registry import all_formats
from assay.service.audit import Auditing, audit
from assay.service.examine import inspect
from assay.spec.finding import Severity
from assay.trees import Tree

FILES = [Entry(b"a.txt", b"words " * 20, method=8), Entry(b"d/b.bin", bytes(range(256)))]
TAR = tar_of(("a.txt", b"words"), ("d/b.bin", bytes(range(256))))


def opened(data: bytes, name: str = "pack.bin", limit: int = 1 << 30) -> Expanded:
    found = expand(Tree.of({name: data}, limit=limit), name)
    assert found is not None
    return found


def grave(found: Expanded) -> set[tuple[str, Severity]]:
    return {(finding.rule, finding.severity) for finding in found.findings if finding.severity is not Severity.NOTE}


@pytest.mark.parametrize(
    "data",
    [zip_of(FILES), TAR, gzip.compress(TAR), bz2.compress(TAR), lzma.compress(TAR), tar_of(("./a.txt", b"words"), ("./d/b.bin", bytes(range(256))))],
    ids=["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar of a folder"],
)  # fmt: skip
def test_an_honest_archive_becomes_a_tree_of_its_members(data: bytes) -> None:
    found = opened(data)
    assert grave(found) == set()
    assert found.tree.paths == ("a.txt", "d/b.bin")
    assert found.tree.open("d/b.bin").read() == bytes(range(256))
    assert found.tree.head("a.txt").startswith(b"words")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_folders_of_tar_are_understood(form: int) -> None:
    name = "folder/" * 20 + "schön" * 10 + ".bin"
    found = opened(tar_of(special("folder", tarfile.DIRTYPE), (name, b"x"), form=form))
    assert found.tree.paths == (name,)
    assert grave(found) == set()


def test_a_compressed_file_becomes_a_tree_of_one_entry() -> None:
    assert opened(gzip.compress(b"words"), "table.csv.gz").tree.paths == ("table.csv",)


@pytest.mark.parametrize(
    "data", [b"", b"words", b"x\x9cwords that are not zlib", bytes(600), b"{}", b"PK", b"\x1f\x8b\x08"]
)
def test_what_is_no_archive_is_not_opened(data: bytes) -> None:
    assert expand(Tree.of({"f": data}), "f") is None


@pytest.mark.parametrize("magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\1\0", b"\x28\xb5\x2f\xfd", b"MSCF\0\0\0\0"])
def test_archives_that_cannot_be_read_are_incomplete(magic: bytes) -> None:
    assert grave(opened(magic + bytes(100))) == {("archive-unsupported", Severity.INCOMPLETE)}


def link(target: bytes) -> bytes:
    return zip_of([*FILES, Entry(b"d/link", target, mode=stat.S_IFLNK | 0o777)])


@pytest.mark.parametrize("target", ["../../etc/x", "/etc/x", "\\\\server\\x", "C:\\x", ".."])
@pytest.mark.parametrize("kind", ["zip", "symlink", "hardlink"])
def test_links_that_point_outside_are_found(target: str, kind: str) -> None:
    types = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
    if kind == "zip":
        data = link(target.encode() if target != ".." else b"../..")
    else:
        data = tar_of(("a", b"x"), special("link", types[kind], target))
    assert ("archive-link-outside", Severity.READ) in grave(opened(data))


def test_links_that_stay_inside_are_a_note() -> None:
    for data in (link(b"../a.txt"), tar_of(("a", b"x"), special("link", tarfile.SYMTYPE, "a"))):
        found = opened(data)
        assert grave(found) == set()
        assert "archive-link" in {finding.rule for finding in found.findings}


def test_a_member_written_through_a_link_is_found() -> None:
    data = tar_of(special("d", tarfile.SYMTYPE, "e"), ("d/x", b"x"))
    assert ("archive-link-write", Severity.WRITE) in grave(opened(data))
    honest = tar_of(special("d", tarfile.DIRTYPE), ("d/x", b"x"))
    assert grave(opened(honest)) == set()


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_found(kind: bytes) -> None:
    assert ("archive-special", Severity.READ) in grave(opened(tar_of(("a", b"x"), special("dev", kind))))
    mode = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}[kind]
    assert ("archive-special", Severity.READ) in grave(opened(zip_of([Entry(b"a", b"x", mode=mode | 0o644)])))


def test_set_user_id_is_found() -> None:
    assert ("archive-set-id", Severity.MISLEAD) in grave(opened(tar_of(special("a", tarfile.REGTYPE, mode=0o4755))))
    assert ("archive-set-id", Severity.MISLEAD) in grave(
        opened(zip_of([Entry(b"a", b"x", mode=stat.S_IFREG | 0o4755)]))
    )
    assert grave(opened(tar_of(special("a", tarfile.REGTYPE, mode=0o755)))) == set()


@pytest.mark.parametrize(
    "name", ["../x", "/x", "C:\\x", "\\\\s\\x", "a\\b", "a\x1bb", "a\u202eb", "nul.txt", "x.txt:y", "a.", "x" * 300]
)
def test_dangerous_names_of_members_are_found(name: str) -> None:
    for data in (zip_of([Entry(name.encode(), b"x")]), tar_of((name, b"x"), form=tarfile.PAX_FORMAT)):
        assert any(rule.startswith("name-") for rule, _ in grave(opened(data)))


def test_a_name_that_occurs_twice_in_a_tar_is_found() -> None:
    assert ("tar-duplicate-member", Severity.MISLEAD) in grave(opened(tar_of(("a", b"x"), ("a", b"y"))))


def test_damaged_and_prolonged_tars_are_found() -> None:
    assert ("tar-broken", Severity.INCOMPLETE) in grave(opened(TAR[:700]))
    assert ("tar-broken", Severity.INCOMPLETE) in grave(opened(TAR[:1024] + b"x" * 512 + TAR[1024:]))
    assert ("tar-trailing", Severity.MISLEAD) in grave(opened(TAR + PRINTS))
    assert ("tar-unknown-member", Severity.INCOMPLETE) in grave(opened(tar_of(special("a", b"Z"))))


def zeros(count: int) -> bytes:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(count)) + squeeze.flush()


def test_a_bomb_that_says_so_is_not_inflated() -> None:
    lies = {"size": 1 << 28, "local_size": 1 << 28, "method": 8}
    data = zip_of([Entry(b"%d" % number, bytes(1000), **lies) for number in range(8)])
    assert ("archive-bomb", Severity.EXHAUST) in grave(opened(data))
    assert opened(data).tree.paths == ()


def test_bombs_share_one_allowance_however_many_there_are() -> None:
    packed = zeros(100)
    begun = time.process_time()
    data = zip_of([Entry(b"%d.gz" % number, packed) for number in range(20)])
    found = audit(Tree.of({"m": data}), Auditing(all_formats(), (PolyglotsAuditor(),), expand, "t")).findings
    assert ("archive-bomb", Severity.EXHAUST) in {(finding.rule, finding.severity) for finding in found}
    assert time.process_time() - begun < HANG


def test_deflated_members_share_the_allowance_too() -> None:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    raw = squeeze.compress(bytes(100 << 20)) + squeeze.flush()
    sizes = {"size": 100 << 20, "local_size": 100 << 20}
    data = bytearray(zip_of([Entry(b"%d" % number, raw + bytes(1 << 20), **sizes) for number in range(8)]))
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = data.find(signature)
        while at >= 0:
            data[at + place] = 8
            at = data.find(signature, at + 4)
    tree = opened(bytes(data)).tree
    begun = time.process_time()
    with pytest.raises(AssayError):
        _ = [len(tree.open(path).read(99 << 20)) for path in tree]
    assert time.process_time() - begun < HANG


def test_a_lie_about_the_size_shows_when_the_member_is_read() -> None:
    words = b"words " * 1000
    for size in (100, 10_000):
        found = opened(zip_of([Entry(b"a", words, method=8, size=size, local_size=size)]))
        assert ("zip-crc", Severity.MISLEAD) in grave(found)


def test_a_member_inflates_as_far_as_it_is_read() -> None:
    words = bytes(range(256)) * 40_000
    found = opened(zip_of([Entry(b"a", words, method=8)]))
    window = found.tree.open("a")
    assert window.read(5_000_000, 10) == words[5_000_000:5_000_010]
    assert window.read(0, 10) == words[:10]
    assert window.read() == words


def test_an_encrypted_member_is_incomplete() -> None:
    assert ("zip-encrypted", Severity.INCOMPLETE) in grave(opened(zip_of([Entry(b"a", b"x", flags=0x801)])))


def test_pickles_inside_archives_are_found_where_they_lie() -> None:
    pickle = b"\x80\x04" + PRINTS
    inner = zip_of([Entry(b"deep/x.bin", pickle)])
    auditing = Auditing(all_formats(), (), expand, "test")
    for data in (
        zip_of([Entry(b"in.zip", inner)]),
        tar_of(("in.zip", inner)),
        gzip.compress(tar_of(("in.zip", inner))),
    ):
        tree = Tree.of({"pack": data})
        for name in ("in.zip", "deep/x.bin"):
            (path,) = tree.paths
            found = expand(tree, path)
            assert found is not None
            tree = found.tree
            assert tree.paths == (name,)
        assert tree.open("deep/x.bin").read() == pickle
        assert all(item.path.startswith("pack!/in.zip!/") for item in audit(Tree.of({"pack": data}), auditing).findings)


def test_pickles_and_programs_in_archives_of_other_formats_are_found() -> None:
    arrays = io.BytesIO()
    np.save(arrays, np.zeros(3))
    for inside in (b"\x80\x04" + PRINTS, b"\x7fELF\2\1\1" + bytes(64)):
        tree = Tree.of({"m.npz": zip_of([Entry(b"a.npy", arrays.getvalue()), Entry(b"b.npy", inside)])})
        found = ArchivesAuditor().audit(tree, inspect(tree, all_formats()))
        assert ("archive-foreign-member", Severity.INCOMPLETE) in {(item.rule, item.severity) for item in found}
    honest = Tree.of({"m.npz": zip_of([Entry(b"a.npy", arrays.getvalue())])})
    assert list(ArchivesAuditor().audit(honest, inspect(honest, all_formats()))) == []


def test_nesting_ends() -> None:
    data = zip_of(state_dict())
    for _ in range(6):
        data = zip_of([Entry(b"in.zip", data)])
    rules = {finding.rule for finding in audit(Tree.of({"m": data}), Auditing(all_formats(), (), expand, "t")).findings}
    assert "archive-nesting" in rules


@pytest.mark.parametrize("data", [TAR, zip_of(FILES), gzip.compress(TAR)], ids=["tar", "zip", "tar.gz"])
def test_damage_anywhere_gives_findings_or_our_errors(data: bytes) -> None:
    for place in range(0, len(data), max(1, len(data) // 400)):
        for value in (0, 0x2F, 0x7F, 0xFF):
            broken = data[:place] + bytes([value]) + data[place + 1 :]
            tree = Tree.of({"m": broken}, limit=64 << 20)
            try:
                found = expand(tree, "m")
                for path in found.tree if found else ():
                    assert found is not None
                    found.tree.open(path).read()
            except AssayError:
                continue


def test_many_members_of_a_tar_are_bounded() -> None:
    header = bytearray(tar_of(("a", b""))[:512])
    begun = time.process_time()
    found = opened(bytes(header) * 100_001 + bytes(1024))
    assert ("archive-unreadable", Severity.INCOMPLETE) in grave(found)
    assert time.process_time() - begun < HANG


def test_numbers_of_tar_that_are_none_end_the_reading() -> None:
    for size in (b"-0000000001\0", b"\xff" * 12, b"99999999999\0"):
        header = bytearray(TAR[:512])
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        assert grave(opened(bytes(header) + TAR[512:]))
