"""``assay bom`` and ``assay vulns``: what they print, attach, and answer with their exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import assay
from assay.cli.main import invoke
from assay.errors import InvalidInput, NotFound
from assay.service.materials import attach
from assay.settings import Settings
from assay.wiring.places import open_registry

ENVIRONMENT = {"schema": 1, "distributions": {"numpy": "1.21.0"}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (tmp_path / "model/LICENSE").write_text("For academic and non-commercial purposes. For research use only.")
    assert invoke("push ./model m --metric f1=0.5".split()) == 0  # in Python, the environment would be recorded
    return tmp_path / "home"


@pytest.fixture
def osv(tmp_path: Path) -> Path:
    folder = tmp_path / "osv"
    folder.mkdir()
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.22.0"}]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": "numpy"}, "ranges": ranges}]
    (folder / "PYSEC-1.json").write_text(json.dumps({"id": "PYSEC-1", "affected": affected}))
    return folder


def remember(home: Path, environment: dict) -> None:
    """Say under what the newest version of m was made."""
    registry = open_registry(Settings(home, "tester"))
    version = assay.versions("m", home=home)[0]
    attach(registry, version, "https://assay.dev/statement/environment/v1", environment)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = invoke([*arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("form", ["cyclonedx", "spdx", "slsa"])
def test_a_version_and_its_files_have_the_same_digest_in_every_form(form: str, home: Path, capsys) -> None:
    digest = assay.versions("m")[0].manifest.hex
    for target in ("m", "m:1", "./model"):
        status, out, err = run(capsys, "bom", target, "--format", form)

        assert status == 0
        assert digest in out
        assert json.loads(out)
        assert "README.md says apache-2.0, but LICENSE is LicenseRef-non-commercial" in err


def test_a_document_is_attached_once_and_travels_with_the_version(home: Path, capsys) -> None:
    before = run(capsys, "bom", "m")[1]
    assert "attached" in run(capsys, "bom", "m", "--attach")[2]
    assert "attached before" in run(capsys, "bom", "m", "--attach")[2]
    run(capsys, "bom", "m", "--format", "spdx", "--attach")
    run(capsys, "bom", "m", "--format", "slsa", "--attach")

    kinds = [one["predicate_type"] for one in json.loads(run(capsys, "show", "m", "--json")[1])["statements"]]
    assert {"https://cyclonedx.org/bom", "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"} <= set(kinds)
    assert kinds.count("https://cyclonedx.org/bom") == 1
    assert run(capsys, "bom", "m")[1] == before
    assert run(capsys, "copy", "m", "oci:./layout")[0] == 0
    assert "https://slsa.dev/provenance/v1" in "".join(
        file.read_text("utf-8", "replace") for file in Path("layout/blobs/sha256").iterdir()
    )


def test_output_is_written_to_the_file_and_named(home: Path, capsys) -> None:
    printed = run(capsys, "bom", "m")[1]
    status, out, _ = run(capsys, "bom", "m", "--output", "bom.json")

    assert (status, out) == (0, "bom.json\n")
    assert Path("bom.json").read_text() == printed
    assert run(capsys, "bom", "m", "--output", "nowhere/bom.json")[0] == 2


def test_plain_files_have_nothing_to_attach_to(home: Path, capsys) -> None:
    assert run(capsys, "bom", "./model", "--attach")[0] == 64
    with pytest.raises(InvalidInput):
        assay.bill_of_materials("./model", attach=True)
    with pytest.raises(InvalidInput):
        assay.bill_of_materials("m", form="pdf")  # not a form


def test_vulnerabilities_answer_with_the_exit_status(home: Path, osv: Path, capsys) -> None:
    status, _, err = run(capsys, "vulns", "m", "--osv", "osv")
    assert status == 2
    assert "nothing is recorded of the environment" in err

    remember(home, ENVIRONMENT)
    status, out, _ = run(capsys, "vulns", "m", "--osv", "osv")
    assert status == 1
    assert "PYSEC-1" in out
    assert "fixed in 1.22.0" in out

    remember(home, {"schema": 1, "distributions": {"numpy": "1.22.0"}})
    status, out, _ = run(capsys, "vulns", "m", "--osv", "osv")
    assert (status, out) == (0, "no known vulnerabilities\n")

    (osv / "broken.json").write_text('{"id": "PyPI"')
    status, out, err = run(capsys, "vulns", "m", "--osv", "osv")
    assert (status, out) == (2, "")
    assert "not decided: broken.json" in err


def test_vulnerabilities_are_there_for_programs(home: Path, osv: Path, capsys) -> None:
    remember(home, ENVIRONMENT)
    body = json.loads(run(capsys, "vulns", "m", "--osv", "osv", "--json")[1])

    assert [one["id"] for one in body["vulnerabilities"]] == ["PYSEC-1"]
    assert assay.vulnerabilities("m", osv).vulnerabilities[0].fixed == ("1.22.0",)
    with pytest.raises(NotFound):
        assay.vulnerabilities("m", osv / "nowhere")
    with pytest.raises(InvalidInput):
        assay.vulnerabilities("./model", osv)
