"""Folders that the Hugging Face client filled: one version, checked by what the client wrote down."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from huggingface_hub._local_folder import write_download_metadata

from assay.importers.hub_folder import HubFolder
from assay.ports.importers import Checksum
from assay.wiring.importing import importer_of

COMMIT = "c0ffee" * 6 + "c0ff"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, with metadata as the client itself writes it."""
    made = tmp_path / "net"
    (made / "sub").mkdir(parents=True)
    for name, data in (("model.bin", b"weights"), ("sub/config.json", b"{}")):
        (made / name).write_bytes(data)
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        etag = hashlib.sha256(data).hexdigest() if name == "model.bin" else git
        write_download_metadata(made, name, COMMIT, etag)
    return made


def test_it_is_one_version_without_what_the_client_keeps_there(folder: Path, read) -> None:
    importer = importer_of(str(folder))
    assert importer.system == "huggingface-cache"
    found = read(importer)
    assert {key: files for key, (_, files) in found.items()} == {
        ("net", COMMIT): {"model.bin": b"weights", "sub/config.json": b"{}"}
    }


def test_checksums_are_the_tags_of_files_that_were_not_changed_since(folder: Path) -> None:
    (offered,) = HubFolder(folder).offered()
    os.utime(folder / "sub" / "config.json", (2_000_000_000, 2_000_000_000))
    with offered.open() as files:
        assert files.checksums == {"model.bin": Checksum("sha256", hashlib.sha256(b"weights").hexdigest())}


@pytest.mark.parametrize("said", ["", "a\nb\n", "a\nb\n1e300\n", "a\nb\nnan\n", "\xff" * 9000, "a\nb\n-1e18"])
def test_metadata_that_says_nothing_is_done_without(folder: Path, said: str, read) -> None:
    (folder / ".cache" / "huggingface" / "download" / "model.bin.metadata").write_text(said)
    (offered, files) = read(HubFolder(folder))["net", COMMIT]
    assert files["model.bin"] == b"weights"
    with offered.open() as opened:
        assert list(opened.checksums) == ["sub/config.json"]
