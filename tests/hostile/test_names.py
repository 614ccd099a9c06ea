"""Names that mean another thing elsewhere or hide what they are; and names that only look unusual."""

from __future__ import annotations

import time

import pytest
from bounds import HANG

from assay.audit.names import NamesAuditor, name_findings
from assay.service.examine import inspect
from assay.spec.finding import Severity
from assay.trees import Tree

HONEST = [
    "encoder.bias:0.npy",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "./folder/",
    "./folder/x.py",
    ".gitattributes",
    "archive/.data/serialization_id",
    "v1.0/x..y/z",
    "日本語/モデル.bin",
    "café.txt",
    "checkpoint_2024-01-01T10:00:00.pt",
    "run 10:20:30/x",
    "events.out.tfevents.1700000000.host.1.0",
    "variables/variables.data-00000-of-00001",
    "aux_head/weights",
    "console.txt",
    "com/readme",
    "👨‍👩‍👧.txt",
    "می‌خواهم.txt",
    "a" * 255,
    "[1]{2}(3)!@#$%^&+=~`',;.txt",
]

HOSTILE = [
    ("../x", "name-parent", Severity.WRITE),
    ("a/../../x", "name-parent", Severity.WRITE),
    ("..\\..\\x", "name-parent", Severity.WRITE),
    (".. /x", "name-parent", Severity.WRITE),
    ("/etc/x", "name-absolute", Severity.WRITE),
    ("\\x", "name-absolute", Severity.WRITE),
    ("C:\\x", "name-drive", Severity.WRITE),
    ("c:x", "name-drive", Severity.WRITE),
    ("\\\\server\\share\\x", "name-server", Severity.NETWORK),
    ("//server/share/x", "name-server", Severity.NETWORK),
    ("a\\b", "name-backslash", Severity.MISLEAD),
    ("a//b", "name-empty-part", Severity.MISLEAD),
    ("a/./b", "name-empty-part", Severity.MISLEAD),
    ("a\0b", "name-nul", Severity.MISLEAD),
    ("a\x1b[31mb", "name-control", Severity.MISLEAD),
    ("a\x7fb", "name-control", Severity.MISLEAD),
    ("a\u0085b", "name-control", Severity.MISLEAD),
    ("model\u202etxt.exe", "name-invisible", Severity.MISLEAD),
    ("mo\u200bdel", "name-invisible", Severity.MISLEAD),
    ("\udcff", "name-encoding", Severity.MISLEAD),
    ("NUL", "name-reserved", Severity.MISLEAD),
    ("a/con.txt", "name-reserved", Severity.MISLEAD),
    ("COM¹.log", "name-reserved", Severity.MISLEAD),
    ("aux /x", "name-reserved", Severity.MISLEAD),
    ("x.txt:stream", "name-stream", Severity.MISLEAD),
    ("x.txt:0.pkl", "name-stream", Severity.MISLEAD),
    ("model::$DATA", "name-stream", Severity.MISLEAD),
    ("a.", "name-trailing", Severity.MISLEAD),
    ("a /b", "name-trailing", Severity.MISLEAD),
    ("x" * 256, "name-overlong", Severity.MISLEAD),
    ("é" * 128, "name-overlong", Severity.MISLEAD),
    ("x/" * 3000 + "x", "name-overlong", Severity.MISLEAD),
]


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_name_has_no_finding(name: str) -> None:
    assert name_findings([name]) == []


def test_honest_names_beside_each_other_have_no_finding() -> None:
    assert name_findings([*HONEST, "a/b", "a/c", "b/b"]) == []


@pytest.mark.parametrize(("name", "rule", "severity"), HOSTILE)
def test_a_dangerous_name_is_found_in_archives_and_artifacts(name: str, rule: str, severity: Severity) -> None:
    assert (rule, severity) in {(finding.rule, finding.severity) for finding in name_findings([name], "pack.zip")}
    if "\udcff" not in name:
        tree = Tree.of({name: b"", "fine": b""})
        found = NamesAuditor().audit(tree, inspect(tree, ()))
        assert (rule, name) in {(finding.rule, finding.path) for finding in found}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("README", "readme"),
        ("é", "e\u0301"),
        ("ﬀ", "FF"),
        ("straße", "STRASSE"),
        ("d", "d/x"),
        ("D", "d/x"),
        ("d/", "d"),
        ("É", "e\u0301"),
    ],
)
def test_twins_are_found_in_either_order(first: str, second: str) -> None:
    for names in ([first, second], [second, first]):
        assert [finding.rule for finding in name_findings(names, "pack.zip")] == ["name-twins"]


def test_folders_are_no_twins_of_their_files() -> None:
    assert name_findings(["d/", "d/x", "d/y/", "d/y/z"]) == []


def test_what_is_said_about_a_name_is_one_line_of_plain_text() -> None:
    for name, _, _ in HOSTILE:
        for finding in name_findings([name, name.upper(), name.lower()], "pack.zip"):
            assert (finding.message + finding.evidence).isprintable()
            assert (finding.message + finding.evidence).encode("utf-8")


def test_a_hundred_thousand_names_take_less_than_a_second() -> None:
    begun = time.process_time()
    name_findings([f"archive/data/{number}" for number in range(100_000)])
    assert len(name_findings([f"../{number}" for number in range(10_000)])) < 100
    assert time.process_time() - begun < HANG
