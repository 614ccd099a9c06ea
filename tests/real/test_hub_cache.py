"""Hugging Face's own libraries find a version in a cache that was laid out for them, with no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import assay
from assay.errors import InvalidInput, Refused

pytestmark = [pytest.mark.framework, pytest.mark.real]

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

_SETTINGS: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    model = transformers.BertModel(transformers.BertConfig(**_SETTINGS))
    model.save_pretrained(str(tmp_path / "model"))
    assay.push(tmp_path / "model", "team/bert", alias="champion", home=tmp_path / "home")
    return tmp_path / "home"


def blobs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "models--team--bert" / "blobs").iterdir())


def test_from_pretrained_finds_a_version_by_name_number_and_alias(home: Path, tmp_path: Path) -> None:
    name = assay.hub_cache("team/bert:champion", tmp_path / "hub", home=home)
    told = transformers.BertModel.from_pretrained(str(tmp_path / "model")).state_dict()

    for revision in ("main", "1", "champion"):
        found = transformers.AutoModel.from_pretrained(
            name, cache_dir=str(tmp_path / "hub"), revision=revision, local_files_only=True
        )
        assert all(torch.equal(value, told[key]) for key, value in found.state_dict().items())


def test_a_program_that_only_knows_the_cache_works_offline(home: Path, tmp_path: Path) -> None:
    assay.hub_cache("team/bert", tmp_path / "hub", repo="other/name", home=home)
    environ = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    code = (
        "import huggingface_hub, transformers; "
        "print(huggingface_hub.hf_hub_download('other/name', 'config.json')); "
        "print(huggingface_hub.snapshot_download('other/name')); "
        "transformers.AutoModel.from_pretrained('other/name'); "
        "print([repo.repo_id for repo in huggingface_hub.scan_cache_dir().repos], huggingface_hub.scan_cache_dir().warnings)"
    )

    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['other/name'] []"


def test_nothing_is_copied_and_a_file_that_was_written_over_is_mended(home: Path, tmp_path: Path) -> None:
    assay.hub_cache("team/bert", tmp_path / "hub", home=home)
    before = {path.name: path.stat().st_ino for path in blobs(tmp_path / "hub")}
    harmed = max(blobs(tmp_path / "hub"), key=lambda path: path.stat().st_size)
    assert harmed.stat().st_nlink >= 2

    harmed.unlink()
    harmed.write_bytes(b"something else")
    assay.hub_cache("team/bert", tmp_path / "hub", home=home)

    assert {path.name: path.stat().st_ino for path in blobs(tmp_path / "hub")} == before


def test_versions_of_a_model_gather_and_share_what_is_the_same(home: Path, tmp_path: Path) -> None:
    assay.hub_cache("team/bert", tmp_path / "hub", home=home)
    (tmp_path / "model" / "README.md").write_text("# more")
    assay.push(tmp_path / "model", "team/bert", home=home)

    assay.hub_cache("team/bert", tmp_path / "hub", home=home)

    repo = tmp_path / "hub" / "models--team--bert"
    assert len(list((repo / "snapshots").iterdir())) == 2
    assert (repo / "refs" / "main").read_text() == (repo / "refs" / "2").read_text()
    assert (repo / "refs" / "1").read_text() != (repo / "refs" / "2").read_text()
    assert len(blobs(tmp_path / "hub")) == len(list((tmp_path / "model").iterdir()))


@pytest.mark.parametrize("repo", ["a/b/c", "..", "a--b", "a/..", "/a", "a/b.git", "", "x" * 97])
def test_a_name_that_the_hub_does_not_take_is_refused(home: Path, tmp_path: Path, repo: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        assay.hub_cache("team/bert", tmp_path / "hub", repo=repo, home=home)

    assert caught.value.code == "bad-repo"
    assert not (tmp_path / "hub").exists()


def test_what_may_not_be_loaded_is_not_shown_either(home: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return print, ("ran",)

    folder = tmp_path / "bad"
    folder.mkdir()
    torch.save({"w": Runs()}, folder / "pytorch_model.bin")
    assay.push(folder, "bad", home=home)

    with pytest.raises(Refused):
        assay.hub_cache("bad", tmp_path / "hub", home=home)

    assert not (tmp_path / "hub").exists()
