"""Files that no format describes: programs and what runs by itself are found, texts and pictures are known to do nothing."""

from __future__ import annotations

import time
from datetime import date

import pytest
from bounds import HANG
from hostile_files import HARM, HONEST, PROTOCOL_0, notebook
from hostile_folders import files

from assay.audit.files import FilesAuditor
from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT
from assay.service.audit import audit
from assay.spec.finding import Severity
from assay.spec.report import Report, Verdict
from assay.trees import Tree
from assay.wiring.auditing import auditing


def audited(given: dict[str, bytes]) -> Report:
    return audit(Tree.of(given), auditing())


def verdict(report: Report) -> Verdict:
    return decide(report, [DEFAULT], subject=None, today=date(2026, 1, 1)).verdict


@pytest.mark.parametrize("case", HARM)
def test_a_file_that_can_do_harm_is_told_from_one_that_cannot(case: str) -> None:
    hostile, honest, rule = HARM[case]

    found, clean = audited(files(hostile)), audited(files(honest))

    assert verdict(found) is not Verdict.SAFE
    assert not rule or rule in {item.rule for item in found.findings if item.severity is not Severity.NOTE}
    assert [item for item in clean.findings if item.severity is not Severity.NOTE] == []


@pytest.mark.parametrize("name", HONEST)
def test_what_lies_beside_models_is_known_to_do_nothing(name: str) -> None:
    assert verdict(audited({name: HONEST[name]})) is Verdict.SAFE


@pytest.mark.parametrize("name", ["data.txt", "data"])
def test_a_pickle_that_is_text_is_not_taken_for_words(name: str) -> None:
    tree = Tree.of({name: PROTOCOL_0, f"words/{name}": b"cat\ndog\n"})

    assert FilesAuditor().inert(tree, tree.paths) == [f"words/{name}"]


def test_the_code_of_a_notebook_is_measured() -> None:
    (finding,) = FilesAuditor().audit(*_inspected({"a.ipynb": notebook("print(1)")}))

    assert (finding.rule, finding.severity) == ("file-source-code", Severity.NOTE)
    assert "1 cells of code (8 bytes)" in finding.message


def test_small_files_take_little_time() -> None:
    given = {**HONEST, **{f"notes/{number}.md": b"words\n" * 200 for number in range(100)}}
    audited(given)
    begin = time.process_time()

    audited(given)

    assert time.process_time() - begin < HANG


def _inspected(given: dict[str, bytes]):  # type: ignore[no-untyped-def]
    from assay.service.examine import inspect

    tree = Tree.of(given)
    return tree, inspect(tree, auditing().formats)


SLOW = {
    "x.json": b'{"_target_":' + b"[" * 100_000,
    "x.yaml": b"a: !x " + b"[" * 100_000,
    "tokens.txt": b"token=" * 200_000,
    "web.txt": b"-eyJ" * 300_000,
    "x.bin": b"import os\ndef a(" + b")" * 65_000,
    "x.py": b"class A(datasets.GeneratorBasedBuilder" * 30_000,
    ".git/config": b"\n" * 300_000,
    "x.svg": b"<svg onabc" + b" " * 500_000 + b"onabc",
    "words.txt": b"cx\ny\n" * 100_000,
    "requirements.txt": b"a[" + b"a," * 100_000,
    "x.png": b"\x89PNG\r\n\x1a\n" + (b"\0\0\0\0abcd\0\0\0\0") * 100_000,
    "x.ipynb": b'{"cells":' + b"[" * 50_000,
}


@pytest.mark.parametrize("name", SLOW)
def test_no_file_takes_long(name: str) -> None:
    begin = time.process_time()

    audited({name: SLOW[name]})

    assert time.process_time() - begin < HANG
