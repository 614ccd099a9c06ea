"""Git repositories: tags and branches are versions, large files come from git-lfs's store, nothing of it is run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.errors import AssayError, NotFound
from assay.importers.git import GitRepository
from assay.ports.importers import Checksum

Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path, git: Git) -> Path:
    """Two tagged commits and a third one on main; ``big.bin`` is a large file from the second on."""
    folder = tmp_path / "repository"
    (folder / "sub").mkdir()
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "sub" / "größe.txt").write_bytes(b"abc")
    (folder / ".gitattributes").write_text("*.bin filter=lfs\n")
    commit(git, "first")
    git("tag", "v1")
    large(folder, b"weights" * 100)
    commit(git, "second")
    git("tag", "--annotate", "--message", "released", "v2")
    (folder / "config.json").write_text('{"a": 2}')
    commit(git, "third")
    return folder


def commit(git: Git, message: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


def large(folder: Path, data: bytes, *, stored: bool = True) -> None:
    """Write a git-lfs pointer, and the bytes where git-lfs keeps them."""
    oid = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"
    (folder / "big.bin").write_text(pointer)
    if stored:
        kept = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)


def test_tags_and_branches_are_versions_oldest_first(repository: Path, read) -> None:
    found = [offered for offered, _ in read(GitRepository(repository, "net")).values()]
    assert [offered.aliases for offered in found] == [("v1",), ("v2",), ("main",)]
    assert [offered.note for offered in found] == ["first", "second", "third"]
    assert {offered.actor for offered in found} == {"Ada"}
    assert found[0].created == "2023-11-14T22:15:20Z"


def test_files_are_those_of_the_commit_and_large_ones_the_bytes_behind_the_pointer(repository: Path, read) -> None:
    first, second, third = [files for _, files in read(GitRepository(repository)).values()]
    assert first == {"config.json": b'{"a": 1}', "sub/größe.txt": b"abc"}
    assert second == {**first, "big.bin": b"weights" * 100}
    assert third["config.json"] == b'{"a": 2}'


def test_every_file_has_the_checksum_by_which_git_knows_it(repository: Path) -> None:
    *_, newest = GitRepository(repository).offered()
    with newest.open() as files:
        assert files.checksums["big.bin"] == Checksum("sha256", hashlib.sha256(b"weights" * 100).hexdigest())
        blob = b'blob 8\0{"a": 2}'
        assert files.checksums["config.json"] == Checksum("git-sha1", hashlib.sha1(blob).hexdigest())


def test_every_commit_is_a_version_when_that_is_asked_for(repository: Path, git: Git) -> None:
    (repository / "config.json").write_text('{"a": 3}')
    commit(git, "fourth")
    (repository / "config.json").write_text('{"a": 4}')
    commit(git, "fifth")
    assert len(list(GitRepository(repository).offered())) == 3
    assert [found.note for found in GitRepository(repository, commits=True).offered()] == [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
    ]


def test_a_large_file_that_was_never_fetched_is_an_error_that_says_how_to_fetch_it(repository: Path, git: Git) -> None:
    large(repository, b"other" * 99, stored=False)
    commit(git, "not fetched")
    *_, newest = GitRepository(repository).offered()
    with pytest.raises(NotFound) as caught, newest.open():
        pass
    assert "git lfs fetch" in str(caught.value.hint)


def test_programs_that_a_repository_names_are_not_run(repository: Path, git: Git, read, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    program = tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> {trap}\ncat\n")
    program.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.editor",
        "filter.lfs.smudge",
        "filter.lfs.process",
        "diff.external",
        "core.hooksPath",
        "uploadpack.packObjectsHook",
    ):
        git("config", key, str(program))
    git("config", "remote.origin.url", "ssh://nowhere.invalid/net")
    git("config", "remote.origin.promisor", "true")
    git("config", "core.repositoryformatversion", "1")
    git("config", "extensions.partialClone", "origin")
    blob, tree = git("rev-parse", "HEAD:config.json"), git("rev-parse", "HEAD:sub")
    assert len(read(GitRepository(repository))) == 3
    assert not trap.exists()

    # Objects that are missing would be fetched from there.
    for missing, code in ((blob, "location-missing"), (tree, "git-failed")):
        (repository / ".git" / "objects" / missing[:2] / missing[2:]).unlink()
        *_, newest = GitRepository(repository).offered()
        with pytest.raises(AssayError) as caught, newest.open():
            pass
        assert caught.value.code == code
    assert not trap.exists()


def test_a_bare_repository_can_be_read_and_anything_else_is_refused(
    repository: Path, git: Git, read, tmp_path: Path
) -> None:
    bare = tmp_path / "net.git"
    git("clone", "--quiet", "--bare", ".", str(bare))
    (bare / "lfs").symlink_to(repository / ".git" / "lfs")
    assert [model for model, _ in read(GitRepository(bare))] == ["net"] * 3
    (tmp_path / "plain").mkdir()
    for folder in (tmp_path / "plain", tmp_path / "missing"):
        with pytest.raises(NotFound) as caught:
            list(GitRepository(folder).offered())
        assert caught.value.code == "import-source-missing"


def test_links_and_submodules_are_left_out(repository: Path, git: Git, read) -> None:
    (repository / "link").symlink_to("/etc/passwd")
    commit(git, "a link")
    *_, (_, files) = read(GitRepository(repository)).values()
    assert sorted(files) == ["big.bin", "config.json", "sub/größe.txt"]
