"""Which files of a path become entries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from assay.artifact.collect import collect, tree_of
from assay.errors import AssayError, InvalidInput, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub/deep").mkdir(parents=True)
    (root / "empty-folder").mkdir()
    for name in ("a.bin", ".hidden", "sub/b.bin", "sub/deep/c.log", "sub/.env"):
        (root / name).write_text(name)
    return root


def test_every_file_is_an_entry_hidden_ones_too_and_empty_folders_are_not(folder: Path) -> None:
    assert list(collect(folder)) == [".hidden", "a.bin", "sub/.env", "sub/b.bin", "sub/deep/c.log"]


def test_assayignore_follows_gitignore_rules_and_is_an_entry_itself(folder: Path) -> None:
    (folder / ".assayignore").write_text("*.log\n/sub/*\n!/sub/b.bin\n# a comment\n.hidden\n")

    assert list(collect(folder)) == [".assayignore", "a.bin", "sub/b.bin"]


def test_an_ignored_folder_is_not_even_opened(folder: Path) -> None:
    (folder / ".assayignore").write_text("sub/\n")
    (folder / "sub" / "outside").symlink_to("/etc/passwd")

    assert list(collect(folder)) == [".assayignore", ".hidden", "a.bin"]


def test_a_single_file_is_one_entry_under_its_base_name(folder: Path) -> None:
    assert collect(folder / "sub" / "b.bin") == {"b.bin": folder / "sub" / "b.bin"}


def test_links_inside_the_tree_are_followed(folder: Path) -> None:
    (folder / "link.bin").symlink_to("sub/b.bin")
    (folder / "linked-folder").symlink_to("sub/deep")

    found = collect(folder)
    assert found["link.bin"].read_text() == "sub/b.bin"
    assert found["linked-folder/c.log"].read_text() == "sub/deep/c.log"


def test_links_of_a_hugging_face_snapshot_into_its_blobs_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "d1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/d1")

    assert collect(snapshot)["config.json"].read_text() == "{}"


def test_a_snapshot_link_that_leaves_the_blobs_is_refused(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (snapshot / "config.json").symlink_to("../../../secret")

    with pytest.raises(InvalidInput) as caught:
        collect(snapshot)
    assert caught.value.code == "link-outside"


def _outside(root: Path) -> None:
    (root / "x").symlink_to("/etc/passwd")


def _outside_folder(root: Path) -> None:
    (root / "x").symlink_to("/etc")


def _broken(root: Path) -> None:
    (root / "x").symlink_to("nowhere")


def _cycle(root: Path) -> None:
    (root / "sub" / "x").symlink_to("..")


def _self(root: Path) -> None:
    (root / "x").symlink_to("x")


def _pipe(root: Path) -> None:
    os.mkfifo(root / "x")


def _socket(root: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    previous = Path.cwd()
    os.chdir(root)  # the address of a socket is short
    try:
        server.bind("x")
    finally:
        os.chdir(previous)
        server.close()


def _not_utf8(root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9")).write_text("x")


def _twins(root: Path) -> None:
    (root / "A.bin").write_text("x")


def _reserved(root: Path) -> None:
    (root / "aux.txt").write_text("x")


def _bad_ignore(root: Path) -> None:
    (root / ".assayignore").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (_outside, "link-outside"),
        (_outside_folder, "link-outside"),
        (_broken, "link-broken"),
        (_cycle, "link-cycle"),
        (_self, "link-broken"),
        (_pipe, "special-file"),
        (_socket, "special-file"),
        (_not_utf8, "unsafe-path"),
        (_twins, "path-collision"),
        (_reserved, "unsafe-path"),
        (_bad_ignore, "bad-ignore-file"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_its_code(folder: Path, build, code: str) -> None:
    build(folder)

    with pytest.raises(AssayError) as caught:
        collect(folder)
    assert caught.value.code == code


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        collect(tmp_path)
    assert caught.value.code == "empty-tree"


def test_a_file_that_may_not_be_read_is_named_before_anything_is_parsed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda file, mode: False)

    with pytest.raises(StorageError, match=r"cannot read .*: permission denied") as caught:
        tree_of(collect(folder))

    assert caught.value.code == "unreadable"
