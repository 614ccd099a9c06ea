"""Folders of Hugging Face and files of settings: what makes a reader run code or look elsewhere; honest ones are safe."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hostile_folders import (
    ADAPTERS,
    CONFIG,
    DENSE,
    HUB,
    INDEX,
    LORA,
    MODULES,
    PIPELINES,
    SENTENCES,
    YAML,
    files,
    repository,
)

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


def assert_told_apart(hostile: dict[str, bytes], honest: dict[str, bytes], rule: str) -> None:
    found, clean = audited(hostile), audited(honest)
    assert rule in {finding.rule for finding in found.findings if finding.severity is not Severity.NOTE}
    assert verdict(found) is not Verdict.SAFE
    assert (verdict(clean), [item for item in clean.findings if item.severity is not Severity.NOTE]) == (
        Verdict.SAFE,
        [],
    )


def test_an_honest_repository_with_all_that_lies_beside_a_model_is_safe() -> None:
    report = audited(repository())

    assert [finding for finding in report.findings if finding.severity is not Severity.NOTE] == []
    assert verdict(report) is Verdict.SAFE


@pytest.mark.parametrize("case", HUB)
def test_what_a_repository_asks_for_beyond_its_library_is_found(case: str) -> None:
    hostile, honest, rule = HUB[case]

    assert_told_apart(repository(**hostile), repository(**honest), rule)


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_adapter_may_name_its_base_model_but_no_place(case: str) -> None:
    hostile, honest, rule = ADAPTERS[case]

    def adapter(changes: dict[str, Any]) -> dict[str, bytes]:
        return repository(**{"adapter_config.json": {**LORA, **changes}, "config.json": None})

    assert_told_apart(adapter(hostile), adapter(honest), rule)


@pytest.mark.parametrize("case", SENTENCES)
def test_modules_of_sentence_transformers_are_the_librarys_own(case: str) -> None:
    changes, rule = SENTENCES[case]
    honest = {"modules.json": MODULES, "1_Dense/config.json": DENSE}

    assert_told_apart(repository(**honest | changes), repository(**honest), rule)


@pytest.mark.parametrize("case", PIPELINES)
def test_parts_of_a_pipeline_are_classes_of_its_libraries(case: str) -> None:
    changes, rule = PIPELINES[case]
    honest = {"model_index.json": INDEX, "unet/config.json": {"_class_name": "UNet2DConditionModel"}}

    assert_told_apart(files(honest | changes), files(honest), rule)


@pytest.mark.parametrize("case", YAML)
@pytest.mark.parametrize("name", ["conf/model.yaml", "model_config.yml"])
def test_tags_and_targets_of_yaml_files_are_found(case: str, name: str) -> None:
    hostile, honest, rule = YAML[case]

    assert_told_apart({name: hostile.encode()}, {name: honest.encode()}, rule)


def test_code_that_comes_with_the_model_is_called_that_and_measured() -> None:
    source = "class X:\n    pass\n"
    report = audited(
        repository(**{"config.json": {**CONFIG, "auto_map": {"AutoModel": "modeling_x.X"}}, "modeling_x.py": source})
    )

    (finding,) = (item for item in report.findings if item.severity is Severity.EXECUTE)
    assert finding.effect == "run Python source from the artifact"
    assert f"{len(source)} bytes of Python source, not known to be malicious" in finding.message


def test_a_python_file_that_nothing_asks_for_is_a_note() -> None:
    report = audited(repository(**{"modeling_x.py": "class X:\n    pass\n"}))

    assert verdict(report) is Verdict.SAFE
    assert [item.rule for item in report.findings if item.path == "modeling_x.py"] == ["file-source-code"]


def test_a_finding_in_settings_points_at_the_byte() -> None:
    yaml = "# caf\u00e9\na: !!python/object/apply:os.system [id]\n".encode()
    body = b'{"n": 1, "_target_": "os.system"}'

    (tag,) = (item for item in audited({"a.yaml": yaml}).findings if item.rule == "settings-yaml-object")
    (key,) = (item for item in audited({"a.json": body}).findings if item.rule == "settings-names-code")

    assert tag.offset == yaml.index(b"!!python")
    assert key.offset == body.index(b"os.system")
