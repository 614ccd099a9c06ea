"""Signing on the command line: keys, versions, folders, and answers that say no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.cli.main import invoke


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASSAY_KEY_PASSWORD", raising=False)
    monkeypatch.delenv("ASSAY_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]):
    """``run(line)``: exit status, standard output, standard error."""

    def do(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = invoke(line.split())
        return status, *capfd.readouterr()

    return do


@pytest.fixture
def signed(run, tmp_path: Path) -> Path:
    """A home with ``m:1``, signed with ``release``; the folder of the model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "bert"}')
    for line in ("key release", "key other", "push ./model m", "sign m --key release"):
        assert run(line)[0] == 0
    return tmp_path / "model"


def policy(tmp_path: Path, *lines: str) -> None:
    key = (tmp_path / "release.pub").read_text()
    (tmp_path / "home/policy.toml").write_text(
        f"[[trust.signer]]\nname = 'release'\npublic_key = '''{key}'''\n"
        + "\n".join(lines)
        + "\n[[trust.require]]\nmodels = 'm'\nsigners = ['release']\n"
    )


def test_verify_names_who_signed_and_answers_no_for_another_key(run, signed: Path) -> None:
    status, out, _ = run("verify m --key release.pub")
    assert status == 0
    assert "signature of the files by release.pub, key sha256:" in out
    assert "signature of the manifest by release.pub" in out

    status, out, _ = run("verify m --key other.pub")
    assert status == 1
    assert "m must be signed by 1 of other.pub: it is signed by none of them" in out


def test_one_of_several_keys_is_enough(run, signed: Path) -> None:
    assert run("verify m --key other.pub --key release.pub")[0] == 0


def test_the_policy_of_the_registry_asks_for_its_signers(run, signed: Path, tmp_path: Path) -> None:
    policy(tmp_path)
    assert run("verify m")[0] == 0
    assert run("verify --all")[0] == 0

    (signed / "config.json").write_text('{"model_type": "gpt2"}')
    assert run("push ./model m")[0] == 0
    status, out, _ = run("verify m")
    assert (status, "must be signed by 1 of release" in out) == (1, True)
    assert run("verify m:1")[0] == 0


def test_a_revoked_key_no_longer_counts(run, signed: Path, tmp_path: Path) -> None:
    policy(tmp_path, "revoked = 2020-01-01", "reason = 'stolen'")
    status, out, _ = run("verify m --json")
    body = json.loads(out)
    assert (status, body["ok"]) == (1, False)
    assert {one["standing"] for one in body["signatures"]} == {"revoked"}
    assert "stolen" in body["problems"][0]


def test_a_folder_is_signed_and_verified_without_a_registry(run, signed: Path, tmp_path: Path) -> None:
    assert run("sign ./model --key release --out ./model/model.sig")[0] == 0
    assert run("verify ./model --signature ./model/model.sig --key release.pub")[0] == 0
    assert run("verify ./model --signature ./model/model.sig --key other.pub")[0] == 1
    assert (
        run("sign ./model --key release --out ./model/model.sig")[0] == 0
    )  # its own signature is no file of the model

    (signed / "extra.py").write_text("")
    status, out, _ = run("verify ./model --signature ./model/model.sig --key release.pub")
    assert (status, "extra.py is not signed" in out) == (1, True)
    (signed / "extra.py").unlink()
    (signed / "config.json").write_text("{}")
    status, out, _ = run("verify ./model --signature ./model/model.sig --key release.pub")
    assert (status, "config.json differs" in out) == (1, True)
    (signed / "config.json").unlink()
    status, out, _ = run("verify ./model --signature ./model/model.sig --key release.pub")
    assert (status, "config.json is missing" in out) == (1, True)


def test_an_ignore_file_does_not_hide_a_file_from_a_signature(run, signed: Path) -> None:
    (signed / ".assayignore").write_text("*.py\n")
    assert run("sign ./model --key release --out ./model.sig")[0] == 0
    (signed / "extra.py").write_text("")
    assert run("verify ./model --signature ./model.sig --key release.pub")[0] == 1


def test_the_signature_of_a_pulled_folder_is_that_of_the_artifact(run, signed: Path, tmp_path: Path) -> None:
    assert run("pull m out")[0] == 0
    assert run("sign ./out --key release --out ./out.sig")[0] == 0
    assert run("verify ./model --signature ./out.sig --key release.pub")[0] == 0


def test_a_signature_of_a_folder_is_kept_beside_the_version_of_the_same_files(run, signed: Path) -> None:
    assert run("sign ./model --key other --out ./model.sig")[0] == 0
    assert run("verify m --key other.pub")[0] == 1
    assert json.loads(run("sign m --attach model.sig --json")[1])["added"] == 1
    assert json.loads(run("sign m --attach model.sig --json")[1])["added"] == 0
    assert run("verify m --key other.pub")[0] == 0

    (signed / "config.json").write_text("{}")
    assert run("sign ./model --key other --out ./model.sig")[0] == 0
    status, _, err = run("sign m --attach model.sig")
    assert (status, "config.json differs" in err) == (1, True)


def test_an_encrypted_key_needs_its_password(run, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_KEY_PASSWORD", "secret")
    assert run("key sealed")[0] == 0
    assert run("sign m --key sealed")[0] == 0
    monkeypatch.delenv("ASSAY_KEY_PASSWORD")
    status, _, err = run("sign m --key sealed")
    assert (status, "ASSAY_KEY_PASSWORD" in err) == (2, True)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("sign m --key release --out x.sig", 64),
        ("sign ./model --key release", 64),
        ("sign m", 64),
        ("sign m --key release --keyless", 64),
        ("sign m --keyless --cert x.pem", 64),
        ("verify m --issuer https://accounts.example.org", 2),
        ("sign m --key release --attach x.sig", 64),
        ("sign m --attach x.sig --cert x.pem", 64),
        ("sign m --attach model/config.json", 2),
        ("verify ./model --key release.pub", 64),
        ("verify m --signature x.sig", 64),
        ("verify ./model --signature nothing.sig --key release.pub", 2),
        ("verify ./model --signature model/config.json --key release.pub", 1),
        ("verify ./model --signature model/config.json", 1),
        ("verify m --key nothing.pub", 2),
        ("verify m --key release", 2),
        ("verify m --key release.pub --identity me@example.org", 2),
        ("sign m --key release.pub", 2),
        ("sign m --key nothing", 2),
        ("key release", 2),
        ("sign ./release --key release --out x.sig", 2),
        ("sign ./model --key release --out ./no/folder/x.sig", 2),
    ],
)
def test_what_cannot_be_done_says_so_without_a_traceback(run, signed: Path, line: str, status: int) -> None:
    found, out, err = run(line)
    assert found == status, err
    assert "Traceback" not in out + err


def test_keyless_signatures_without_their_library_say_what_to_install(run, signed: Path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sigstore", None)
    for line in ("sign m --keyless", "verify m --identity me@example.org --issuer https://accounts.example.org"):
        status, _, err = run(line)
        assert (status, "pip install 'assay[keyless]'" in err) == (2, True)


def test_signing_without_the_library_says_what_to_install(run, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "assay.signing.keys")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    status, _, err = run("sign m --key release")
    assert (status, "pip install 'assay[sign]'" in err) == (2, True)
    status, out, _ = run("verify m")  # listing needs no library
    assert (status, "untrusted" in out) == (0, True)
