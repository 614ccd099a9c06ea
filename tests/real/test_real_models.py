"""Real trained models: each is pushed, described correctly, verified, and pulled byte for byte."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest
from rows import ROWS, Row

from assay.artifact.collect import collect
from assay.service import fetch, publish, verify
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.finding import Severity
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return open_registry(Settings(tmp_path_factory.mktemp("real") / "home", "tester"), create=True)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.package}:{row.path.strip('/').rpartition('/')[2]}")
def test_a_real_model_goes_there_and_back(
    row: Row, registry: Registry, real_model, real_folder, tmp_path: Path
) -> None:
    path = real_model(row.package, row.path, row.sha) if row.sha else real_folder(row.package, row.path)
    files = collect(path)

    pushed = publish.push(registry, files, "real/model", guard=guard_of(Settings(Path(registry.place), "tester")))
    summary = pushed.inspection.summary()
    fetch.pull(registry, pushed.version, tmp_path / "out")

    assert summary["format"] == row.format
    assert {name: summary.get(name) for name in row.facts} == row.facts
    assert [found for found in pushed.inspection.all_findings if found.severity is Severity.INCOMPLETE] == []
    assert verify.verify(registry, pushed.version).ok
    for entry, file in files.items():
        assert filecmp.cmp(file, tmp_path / "out" / entry, shallow=False), entry


def test_the_same_bytes_of_two_releases_are_stored_once(registry: Registry, real_model) -> None:
    newer, older = (
        next(row for row in ROWS if row.package == package) for package in ("chgnet==0.4.2", "chgnet==0.2.2")
    )
    pushed = [
        publish.push(
            registry,
            collect(real_model(row.package, row.path, row.sha)),
            "twins",
            guard=guard_of(Settings(Path(registry.place), "tester")),
        )
        for row in (newer, older)
    ]

    blobs = [entry.digest for one in pushed for entry in registry.manifest(one.version).entries()]
    assert len(set(blobs)) == 1
    assert [one.version.number for one in pushed] == [1, 2]
