"""Hugging Face caches: snapshots are versions, refs are aliases, blob names are checksums."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from assay.errors import InvalidInput, NotFound
from assay.importers.hub_cache import HubCache
from assay.ports.importers import Checksum

FIRST, SECOND = "a" * 40, "b" * 40


def snapshot(cache: Path, repository: str, commit: str, files: dict[str, bytes], *refs: str, age: int = 0) -> Path:
    """Add a snapshot as the client lays it out: small files under git's SHA-1, the others under SHA-256."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for path, data in files.items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        blob = folder / "blobs" / (git if path.endswith(".json") else hashlib.sha256(data).hexdigest())
        link = folder / "snapshots" / commit / path
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref in refs:
        (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    os.utime(folder / "snapshots" / commit, (1_700_000_000 - age, 1_700_000_000 - age))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two models; the first in two snapshots that share their weights."""
    folder = tmp_path / "hub"
    weights = {"model.bin": b"weights", "sub/tokenizer.json": b"{}"}
    snapshot(folder, "org/Net", SECOND, {**weights, "config.json": b'{"v": 2}'}, "main", "pr/7", age=10)
    snapshot(folder, "org/Net", FIRST, {**weights, "config.json": b'{"v": 1}'}, "1.0", age=20)
    snapshot(folder, "gpt2", FIRST, {"w": b"x"}, "main")
    return folder


def test_our_layout_is_what_the_client_takes_for_a_cache(cache: Path) -> None:
    found = scan_cache_dir(cache)
    assert not found.warnings
    assert {repo.repo_id: len(repo.revisions) for repo in found.repos} == {"org/Net": 2, "gpt2": 1}


def test_every_snapshot_of_every_model_is_offered_in_the_order_of_downloads(cache: Path, read) -> None:
    found = read(HubCache(cache))
    assert list(found) == [("gpt2", FIRST), ("org/Net", FIRST), ("org/Net", SECOND)]
    assert [offered.aliases for offered, _ in found.values()] == [("main",), ("1.0",), ("main",)]
    assert found["org/Net", SECOND][1] == {
        "config.json": b'{"v": 2}',
        "model.bin": b"weights",
        "sub/tokenizer.json": b"{}",
    }


def test_one_model_of_a_cache_can_be_named(cache: Path) -> None:
    assert [found.model for found in HubCache(cache / "models--gpt2").offered()] == ["gpt2"]


def test_checksums_are_what_the_blobs_are_called(cache: Path) -> None:
    *_, newest = HubCache(cache).offered()
    with newest.open() as files:
        assert files.checksums["model.bin"] == Checksum("sha256", hashlib.sha256(b"weights").hexdigest())
        assert files.checksums["config.json"].algorithm == "git-sha1"


def test_a_blob_in_the_store_that_models_share_is_followed(cache: Path, read) -> None:
    blob = cache / "models--gpt2" / "blobs" / hashlib.sha256(b"x").hexdigest()
    shared = cache / "blobs" / "ab" / "abcdef"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    assert read(HubCache(cache))["gpt2", FIRST][1] == {"w": b"x"}


def test_a_link_that_leads_out_of_the_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (cache / "models--gpt2" / "snapshots" / FIRST / "stolen").symlink_to(tmp_path / "secret")
    (found,) = HubCache(cache / "models--gpt2").offered()
    with pytest.raises(InvalidInput) as caught, found.open():
        pass
    assert caught.value.code == "link-outside"


def test_a_snapshot_that_was_not_downloaded_whole_is_not_offered(cache: Path, unreadable) -> None:
    listing = cache / "models--gpt2" / "trees" / f"{FIRST}.json"
    listing.parent.mkdir()
    listing.write_text(json.dumps({"format_version": 1, "files": {"w": {"size": 1}, "missing.bin": {"size": 9}}}))
    assert "missing.bin" in unreadable(HubCache(cache / "models--gpt2"))[FIRST]


def test_a_blob_that_is_gone_is_told(cache: Path) -> None:
    next((cache / "models--gpt2" / "blobs").iterdir()).unlink()
    (found,) = HubCache(cache / "models--gpt2").offered()
    with pytest.raises(NotFound), found.open():
        pass


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        list(HubCache(tmp_path).offered())
    assert caught.value.code == "import-source-missing"


def test_a_link_to_what_lies_beside_the_model_is_refused(cache: Path, tmp_path: Path) -> None:
    """Whoever unpacks a model's folder at home has much beside it."""
    (cache / ".ssh").mkdir()
    (cache / ".ssh" / "id_rsa").write_text("key")
    for name, target in (("stolen", "../../../.ssh/id_rsa"), ("folder", "../../../.ssh")):
        link = cache / "models--gpt2" / "snapshots" / FIRST / name
        link.symlink_to(target)
        (found,) = HubCache(cache / "models--gpt2").offered()
        with pytest.raises(InvalidInput) as caught, found.open():
            pass
        assert caught.value.code == "link-outside"
        link.unlink()


@pytest.mark.parametrize(
    "listing", [b"[" * 50_000, b'{"files": {"' + b"x" * 5000 + b'": 1}}', b'{"files": ["../../x"]}', b'{"files": 3}']
)
def test_a_listing_of_files_that_is_none_is_told(cache: Path, unreadable, listing: bytes) -> None:
    file = cache / "models--gpt2" / "trees" / f"{FIRST}.json"
    file.parent.mkdir()
    file.write_bytes(listing)
    assert "not a list of files" in unreadable(HubCache(cache / "models--gpt2"))[FIRST]


def test_data_sets_and_spaces_of_a_cache_are_no_models(cache: Path) -> None:
    (cache / "datasets--squad" / "snapshots" / FIRST).mkdir(parents=True)
    (cache / "spaces--org--demo" / "snapshots" / FIRST).mkdir(parents=True)
    (cache / ".locks").mkdir()
    assert {found.model for found in HubCache(cache).offered()} == {"gpt2", "org/Net"}


def test_a_ref_with_slashes_is_one_ref(cache: Path) -> None:
    ref = cache / "models--gpt2" / "refs" / "convert" / "parquet"
    ref.parent.mkdir(parents=True)
    ref.write_bytes(FIRST.encode() + b"\r\n")
    (found,) = HubCache(cache / "models--gpt2").offered()
    assert found.aliases == ("convert/parquet", "main")
