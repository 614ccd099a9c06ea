"""Torch archives that two readers see differently, or that hold more than torch reads; and their honest twins."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from bounds import HANG
from hostile_archives import EMPTY, PRINTS, Entry, changed, state_dict, tensor_pickle, zip_of

from assay.audit.archives import ArchivesAuditor
from assay.audit.polyglots import PolyglotsAuditor
from assay.containers.archive import Archive
from assay.formats.registry import all_formats
from assay.service.examine import inspect
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Tree

ONES = struct.pack("<4f", 1, 1, 1, 1)


def found(data: bytes, name: str = "model.pt") -> list[Finding]:
    """Everything formats and the auditors of structure find; what the pickles inside say is another matter."""
    tree = Tree.of({name: data})
    inspection = inspect(tree, all_formats())
    findings = list(inspection.all_findings)
    for auditor in (ArchivesAuditor(), PolyglotsAuditor()):
        findings += auditor.audit(tree, inspection)
    if inspection.unknown:
        findings.append(Finding("file-unknown", Severity.INCOMPLETE, "nobody knows it", name))
    return [finding for finding in findings if not finding.rule.startswith("pickle-")]


def grave(data: bytes, name: str = "model.pt") -> set[str]:
    return {finding.rule for finding in found(data, name) if finding.severity is not Severity.NOTE}


CRC = zlib.crc32(ONES)
DESCRIBED = {"flags": 0x808, "local_crc": 0, "local_size": 0, "local_packed": 0}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(zip_of(state_dict()), id="plain"),
        pytest.param(zip_of(changed(state_dict(storage=ONES), 0, method=8)), id="deflated pickle"),
        pytest.param(zip_of(state_dict(), comment=b"made on a Tuesday"), id="comment"),
        pytest.param(
            zip_of(
                changed(
                    state_dict(storage=ONES), 2, **DESCRIBED, descriptor=struct.pack("<4s3L", b"PK\7\x08", CRC, 16, 16)
                )
            ),
            id="data descriptor",
        ),
        pytest.param(
            zip_of(changed(state_dict(storage=ONES), 2, **DESCRIBED, descriptor=struct.pack("<3L", CRC, 16, 16))),
            id="data descriptor without signature",
        ),
        pytest.param(
            zip_of(changed(state_dict(), 2, local_extra=b"FB" + struct.pack("<H", 40) + bytes(40))), id="padded"
        ),
        pytest.param(zip_of(changed(state_dict(), 2, before=bytes(64))), id="zeros between members"),
        pytest.param(zip_of(state_dict(Entry(b"m/note.txt", b"trained on Tuesday"))), id="a text"),
    ],
)
def test_honest_archives_have_no_finding_above_a_note(data: bytes) -> None:
    assert grave(data) == set()


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        pytest.param(zip_of(changed(state_dict(), 0, local_name=b"m/dota.pkl")), "zip-header-mismatch", id="local name"),
        pytest.param(zip_of(changed(state_dict(), 0, local_method=8)), "zip-header-mismatch", id="local method"),
        pytest.param(zip_of(changed(state_dict(), 0, local_flags=0x801)), "zip-header-mismatch", id="local encrypted bit"),
        pytest.param(zip_of(changed(state_dict(), 0, local_flags=0)), "zip-header-mismatch", id="local UTF-8 bit"),
        pytest.param(zip_of(changed(state_dict(), 0, local_size=3, local_packed=3)), "zip-header-mismatch", id="local size"),
        pytest.param(zip_of(changed(state_dict(), 0, local_crc=3)), "zip-header-mismatch", id="local checksum"),
        pytest.param(zip_of(changed(state_dict(), 0, packed=3)), "zip-header-mismatch", id="stored in another size"),
        pytest.param(
            zip_of(changed(state_dict(storage=ONES), 2, **DESCRIBED, descriptor=struct.pack("<4s3L", b"PK\7\x08", CRC, 16, 9))),
            "zip-header-mismatch",
            id="lying data descriptor",
        ),
        pytest.param(zip_of(changed(state_dict(), 0, name=b"m/data.pkl\0.txt")), "zip-header-mismatch", id="NUL in a name"),
        pytest.param(
            zip_of(changed(state_dict(), 0, extra=struct.pack("<HHBL", 0x7075, 14, 1, zlib.crc32(b"m/data.pkl")) + b"evil.name")),
            "zip-header-mismatch",
            id="another name in the Unicode path",
        ),
        pytest.param(zip_of(changed(state_dict(), 0, crc=7, local_crc=7)), "zip-crc", id="checksum"),
        pytest.param(zip_of(changed(state_dict(), 0, crc=7, local_crc=7, method=8)), "zip-crc", id="checksum, deflated"),
        pytest.param(zip_of(changed(state_dict(), 0, size=5, local_size=5, method=8)), "zip-crc", id="size, deflated"),
        pytest.param(zip_of(changed(state_dict(), 0, flags=0x801)), "zip-encrypted", id="encrypted bit"),
        pytest.param(zip_of(changed(state_dict(), 0, method=99)), "zip-method", id="unknown method"),
        pytest.param(zip_of(state_dict(Entry(b"m/data.pkl", EMPTY))), "zip-duplicate-member", id="two data.pkl"),
        pytest.param(zip_of(state_dict(Entry(b"m/DATA.pkl", EMPTY))), "name-twins", id="case twins"),
        pytest.param(zip_of(state_dict(Entry(b"m/../../x", b"x"))), "name-parent", id="traversal"),
        pytest.param(zip_of(changed(state_dict(), 2, before=PRINTS)), "zip-hidden-bytes", id="pickle between members"),
        pytest.param(zip_of(state_dict(Entry(b"m/x.pkl", PRINTS, listed=False))), "zip-hidden-bytes", id="unlisted member"),
        pytest.param(zip_of(state_dict(), gap=PRINTS), "zip-hidden-bytes", id="bytes before the directory"),
        pytest.param(zip_of(state_dict(), trailing=PRINTS), "zip-ends", id="pickle behind"),
        pytest.param(zip_of(state_dict(), count=2), "zip-ends", id="lying count"),
        pytest.param(zip_of(state_dict(), comment=zip_of([Entry(b"x", b"x")])), "zip-ends", id="archive in the comment"),
        pytest.param(
            zip_of(state_dict(), comment=zip_of([Entry(b"x", b"x")])[:-2] + b"\1\0."), "zip-ends", id="two fitting ends"
        ),
        pytest.param(
            zip_of(state_dict(), wide=struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 20, 20, 0, 0, 9, 9, 9, 9)
                   + struct.pack("<4sLQL", b"PK\6\7", 0, 9, 1)),
            "zip64",
            id="zip64 records that contradict",
        ),
    ],
)  # fmt: skip
def test_archives_that_readers_see_differently_are_found(data: bytes, rule: str) -> None:
    rules = grave(data)
    assert rule in rules or (rule == "zip64" and rules), rules


def test_members_that_share_bytes_are_found() -> None:
    one = zip_of(state_dict())
    # The last member's offset is turned to that of the member before it.
    at = one.rfind(b"PK\1\2")
    before = one.rfind(b"PK\1\2", 0, at)
    shared = one[: at + 42] + one[before + 42 : before + 46] + one[at + 46 :]
    assert {"zip-overlap"} <= {finding.rule for finding in Archive(BytesWindow(shared)).findings}


@pytest.mark.parametrize("counted", [True, False])
def test_a_pickle_before_the_archive_is_a_contradiction(counted: bool) -> None:
    data = zip_of(state_dict(), prefix=PRINTS, counted=counted)
    assert grave(data) & {"polyglot-zip", "zip-ends", "zip-hidden-bytes"}


@pytest.mark.parametrize(
    "name", [b"m/extra.pkl", b"m/notes.txt", b"m/data/9", b"other/data.pkl", b"m/.data/x", b"x", b"m/constants.pkl2"]
)
@pytest.mark.parametrize("method", [0, 8])
def test_a_pickle_under_any_name_is_found(name: bytes, method: int) -> None:
    for pickle in (PRINTS, EMPTY[:2] + PRINTS):
        rules = grave(zip_of(state_dict(Entry(name, pickle, method=method))))
        assert "pytorch-extra-pickle" in rules


def test_a_pickle_behind_empty_deflated_blocks_is_found() -> None:
    empty = b"\0\0\0\xff\xff" * 3000
    packed = empty + b"\1" + struct.pack("<HH", len(PRINTS), len(PRINTS) ^ 0xFFFF) + PRINTS
    numbers = {
        "size": len(PRINTS),
        "crc": zlib.crc32(PRINTS),
        "local_size": len(PRINTS),
        "local_crc": zlib.crc32(PRINTS),
    }
    # Stated as deflated, written as it is.
    entry = Entry(b"m/data/9", packed, method=0, **numbers)
    data = bytearray(zip_of(state_dict(entry)))
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.rindex(signature) + place] = 8
    assert grave(bytes(data)) == {"pytorch-extra-pickle"}


@pytest.mark.parametrize("name", [b"m/code.bin", b"m/data/9"])
def test_a_program_or_an_archive_among_the_members_is_found(name: bytes) -> None:
    for inside in (b"\x7fELF\2\1\1" + bytes(64), zip_of([Entry(b"x", b"x")]), b"#!/bin/sh\necho inert\n"):
        assert "pytorch-foreign-member" in grave(zip_of(state_dict(Entry(name, inside))))


@pytest.mark.parametrize(
    ("pickle", "storage", "rule"),
    [
        (tensor_pickle(), bytes(12), "pytorch-storage-size"),
        (tensor_pickle(), bytes(20), "pytorch-storage-size"),
        (tensor_pickle(count=400), bytes(16), "pytorch-storage-size"),
        (tensor_pickle(shape=5), bytes(16), "pytorch-view-outside"),
        (tensor_pickle(offset=1), bytes(16), "pytorch-view-outside"),
        (tensor_pickle("1"), bytes(16), "pytorch-missing-storage"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_found(pickle: bytes, storage: bytes, rule: str) -> None:
    assert rule in grave(zip_of(state_dict(pickle=pickle, storage=storage)))


TS = [
    Entry(b"m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81}b."),
    Entry(
        b"m/code/__torch__.py",
        b"class M(Module):\n  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return x\n",
    ),
    Entry(b"m/constants.pkl", b"\x80\x02)."),
    Entry(b"m/version", b"3\n"),
    Entry(b"m/byteorder", b"little"),
]


def script(body: bytes, *more: Entry) -> set[str]:
    code = TS[1].data.replace(b"return x", b"return " + body)
    return grave(zip_of([*changed(TS, 1, data=code), *more]))


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        (b"torch.relu(x)", set()),
        (b"ops.prim.len(x)", set()),
        (b"ops.quantized.add(x, x, 1., 0)", set()),
        (b"ops.torchvision.nms(x, x, 0.5)", set()),
        (b"ops.image.decode_jpeg(x, 0)", set()),
        (b"self.ops.whatever.x", set()),
        (b'"please save it"', set()),
        (b"torch.save(x, 'f')", {"torchscript-reaching-op"}),
        (b"torch . save # no\n (x, 'f')", {"torchscript-reaching-op"}),
        (b"torch.from_file('f')", {"torchscript-reaching-op"}),
        (b"ops.image.read_file('f')", {"torchscript-reaching-op"}),
        (b"ops.image.write_file('f', x)", {"torchscript-reaching-op"}),
        (b"ops.debugprims.load_tensor('f')", {"torchscript-reaching-op", "torchscript-custom-library"}),
        (b"ops.mine.add(x)", {"torchscript-custom-library"}),
        (b"ops  .# no\n mine\\\n .add(x)", {"torchscript-custom-library"}),
        (b"unchecked_cast(__torch__.torch.classes.mine.Engine, x)", {"torchscript-custom-library"}),
        (b"unchecked_cast(__torch__.torch.classes.quantized.Conv2dPackedParamsBase, x)", set()),
    ],
)
def test_operators_and_classes_of_torchscript(body: bytes, rules: set[str]) -> None:
    assert script(body) == rules


def test_operators_of_bytecode_are_looked_at() -> None:
    def bytecode(operator: bytes) -> Entry:
        return Entry(
            b"m/bytecode.pkl",
            b"\x80\x02X\x09\0\0\0operatorsX" + struct.pack("<I", len(operator)) + operator + b"X\0\0\0\0\x86\x85\x86.",
        )

    assert script(b"x", bytecode(b"aten::add")) == set()
    assert script(b"x", bytecode(b"aten::save")) == {"torchscript-reaching-op"}
    assert script(b"x", bytecode(b"mine::add")) == {"torchscript-custom-library"}


def test_a_pickle_that_torchscript_does_not_read_is_found() -> None:
    assert script(b"x", Entry(b"m/code/__torch__.py.debug_pkl", b"\x80\x02K\x01\x85.")) == set()
    assert script(b"x", Entry(b"m/extra/notes.json", b"{}")) == set()
    for name in (b"m/extra/x", b"m/code/__torch__.py.debug_pkl", b"m/data/7"):
        assert script(b"x", Entry(name, PRINTS)) == {"pytorch-extra-pickle"}


def package(*more: Entry) -> list[Finding]:
    entries = [
        Entry(b"p/.data/extern_modules", b"sys\n"),
        Entry(b"p/.data/version", b"6\n"),
        Entry(b"p/model/model.pkl", b"\x80\x03}."),
        *more,
    ]
    return [finding for finding in found(zip_of(entries)) if finding.severity is not Severity.NOTE]


def test_the_source_that_a_package_ships_is_counted() -> None:
    assert package() == []
    (finding,) = package(Entry(b"p/mine/a.py", b"x = 1\n" * 1000), Entry(b"p/mine/b.py", b"y = 1\n"))
    assert (finding.rule, finding.severity) == ("torch-package-source", Severity.EXECUTE)
    assert finding.evidence.startswith("6,006 bytes of Python source: p/mine/a.py")
    assert finding.effect == "run Python source from the artifact"
    assert {item.rule for item in package(Entry(b"p/.data/x", PRINTS))} == {"pytorch-extra-pickle"}


def mar(manifest: bytes, *more: Entry) -> list[Finding]:
    entries = [Entry(b"MAR-INF/MANIFEST.json", manifest), *more]
    return [finding for finding in found(zip_of(entries), "m.mar") if finding.severity is not Severity.NOTE]


def test_what_a_torchserve_archive_ships_is_found() -> None:
    plain = b'{"model": {"modelName": "m", "serializedFile": "m.pt", "handler": "image_classifier"}}'
    weights = Entry(b"m.pt", zip_of(state_dict()))
    assert mar(plain, weights) == []
    code = mar(plain, weights, Entry(b"handler.py", b"x = 1\n"))
    assert [(item.rule, item.severity) for item in code] == [("torchserve-source", Severity.EXECUTE)]
    assert code[0].evidence.startswith("6 bytes of Python source")
    needs = mar(plain.replace(b'"handler"', b'"requirementsFile": "r.txt", "handler"'), weights)
    assert [(item.rule, item.severity) for item in needs] == [("torchserve-requirements", Severity.NETWORK)]
    assert "pytorch-extra-pickle" in {item.rule for item in mar(plain, weights, Entry(b"other.bin", PRINTS))}


def test_torch_files_inside_other_archives_are_looked_at() -> None:
    plain = b'{"model": {"serializedFile": "m.pt"}}'
    code = zip_of(changed(TS, 1, data=TS[1].data.replace(b"return x", b"return torch.save(x, 'f')")))
    for method in (0, 8):
        assert mar(plain, Entry(b"m.pt", zip_of(TS), method=method)) == []
        found = mar(plain, Entry(b"m.pt", code, method=method))
        assert [(item.rule, item.path) for item in found] == [("torchscript-reaching-op", "m.mar!/m.pt")]
    extra = mar(plain, Entry(b"m.pt", zip_of(state_dict())), Entry(b"x", zip_of(state_dict(Entry(b"m/x", PRINTS)))))
    assert [(item.rule, item.path) for item in extra] == [("pytorch-extra-pickle", "m.mar!/x")]


def exported(*more: Entry) -> set[tuple[str, str]]:
    program = (
        b'{"schema_version": {"major": 8, "minor": 1}, "graph_module": {"graph": {"nodes": [], "inputs": [], "outputs": [],'
        b' "tensor_values": {}}, "signature": {"input_specs": [], "output_specs": []}, "module_call_graph": []}}'
    )
    entries = [
        Entry(b"p/archive_format", b"pt2"),
        Entry(b"p/models/model.json", program),
        Entry(b"p/version", b"1"),
        *more,
    ]
    return {(item.rule, item.path) for item in found(zip_of(entries), "m.pt2") if item.severity is not Severity.NOTE}


def test_everything_in_an_exported_program_is_looked_at() -> None:
    inputs = b"p/data/sample_inputs/model.pt"
    assert exported(Entry(inputs, zip_of(state_dict()))) == set()
    hostile = Entry(inputs, zip_of(state_dict(Entry(b"m/x", PRINTS))))
    assert exported(hostile) == {("pytorch-extra-pickle", "m.pt2!/" + inputs.decode())}
    assert exported(Entry(b"p/extra/x", PRINTS)) == {("pytorch-extra-pickle", "m.pt2")}
    assert exported(Entry(b"p/data/aotinductor/m/x.so", b"x")) == {("torch-export-native-code", "m.pt2")}
    assert exported(Entry(b"p/data/constants/custom_obj_0", PRINTS)) == {("torch-export-custom-object", "m.pt2")}
    assert exported(Entry(b"p/data/x", b"\x7fELF\2\1\1" + bytes(64))) == {("pytorch-foreign-member", "m.pt2")}


def legacy(system: bytes = b"\x80\x02}.", keys: bytes = b"\x80\x02].", more: bytes = b"") -> bytes:
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    return magic + b"\x80\x02M\xe9\x03." + system + b"\x80\x02}." + keys + more


def test_pickles_around_the_object_of_the_legacy_layout_are_looked_at() -> None:
    assert grave(legacy()) == set()
    assert "pytorch-preamble-global" in grave(legacy(system=b"\x80\x02" + PRINTS))
    assert "pytorch-preamble-global" in grave(legacy(keys=b"\x80\x02](" + PRINTS[:-1] + b"e."))
    assert "pytorch-trailing-bytes" in grave(legacy(more=b"\x80\x02" + PRINTS))


def test_an_archive_without_a_directory_is_not_safe() -> None:
    data = zip_of(state_dict())
    assert grave(data[: data.index(b"PK\1\2")])


def test_seventy_thousand_members_take_less_than_two_seconds() -> None:
    data = zip_of([*state_dict(), *(Entry(b"m/data/%d" % number, b"x") for number in range(1, 70_001))])
    begun = time.process_time()
    found(data)
    assert time.process_time() - begun < HANG
