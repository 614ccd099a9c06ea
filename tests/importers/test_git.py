"""Git repositories: tags and branches are versions, large files come from git-lfs's store, nothing of it is run."""

from __future__ import annotations

import hashlib
import subprocess
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


def test_tags_of_what_is_no_commit_are_left_out_and_tags_of_tags_are_followed(repository: Path, git: Git, read) -> None:
    git("tag", "tree", "HEAD^{tree}")
    git("tag", "--annotate", "--message", "a file", "blob", "HEAD:config.json")
    git("tag", "--annotate", "--message", "again", "v2-again", "v2")
    git("tag", "--annotate", "--message", "once more", "v2-once-more", "v2-again")
    found = [offered.aliases for offered, _ in read(GitRepository(repository)).values()]
    assert found == [("v1",), ("v2", "v2-again", "v2-once-more"), ("main",)]


def test_names_and_words_that_hold_other_ends_of_lines_are_read_whole(repository: Path, git: Git) -> None:
    git("commit", "--quiet", "--allow-empty", "--message", "a\x85b\u2028c")
    git("tag", "new\u2028line\x85")
    *_, newest = GitRepository(repository).offered()
    assert newest.note == "a\x85b\u2028c"
    assert newest.aliases == ("new\u2028line\x85", "main")


@pytest.mark.parametrize("date", ["99999999999999", "18446744073709551615"])
def test_a_time_that_cannot_be_is_no_reason_to_stop(repository: Path, git: Git, date: str) -> None:
    tree, parent = git("rev-parse", "HEAD^{tree}"), git("rev-parse", "HEAD")
    who = f"A <a@b> {date} +0000"
    body = f"tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nlate\n"
    made = written(repository, "commit", body.encode())
    tag = written(repository, "tag", f"object {made}\ntype commit\ntag late\ntagger {who}\n\nlate\n".encode())
    git("update-ref", "refs/tags/late", tag)
    assert [found.note for found in GitRepository(repository).offered()][-1] == "late"


def written(repository: Path, kind: str, body: bytes) -> str:
    """Write an object as it is; its name."""
    command = ["git", "-C", str(repository), "hash-object", "-t", kind, "-w", "--literally", "--stdin"]
    return subprocess.run(command, input=body, check=True, capture_output=True).stdout.decode().strip()


def test_signatures_are_not_checked_by_a_program_that_the_repository_names(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    trap, program = tmp_path / "ran", tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> {trap}\n")
    program.chmod(0o755)
    git("config", "log.showSignature", "true")
    git("config", "gpg.program", str(program))
    git("config", "i18n.logOutputEncoding", "UTF-16")
    git("config", "color.ui", "always")
    tree, parent = git("rev-parse", "HEAD^{tree}"), git("rev-parse", "HEAD")
    who = "A <a@b> 1800000000 +0000"
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n aGk=\n -----END PGP SIGNATURE-----"
    body = f"tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n{signature}\n\nsigned\n"
    git("update-ref", "refs/heads/main", written(repository, "commit", body.encode()))
    *_, newest = GitRepository(repository).offered()
    assert (newest.note, newest.actor) == ("signed", "A")
    assert not trap.exists()


def test_what_is_checked_out_is_a_version_where_no_branch_or_tag_leads(repository: Path, git: Git, read) -> None:
    """As machines that build check it out."""
    git("checkout", "--quiet", "--detach")
    git("branch", "--delete", "--force", "main")
    git("tag", "--delete", "v1", "v2")
    ((offered, files),) = read(GitRepository(repository)).values()
    assert (offered.note, offered.aliases) == ("third", ())
    assert "config.json" in files


def test_a_worktree_and_a_shallow_clone_are_read_like_any_other(
    repository: Path, git: Git, read, tmp_path: Path
) -> None:
    git("worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "side", "v2")
    assert len(read(GitRepository(tmp_path / "tree"))) == 3
    git("clone", "--quiet", "--depth", "1", f"file://{repository}", str(tmp_path / "shallow"))
    (tmp_path / "shallow" / ".git" / "lfs").symlink_to(repository / ".git" / "lfs")
    assert [found.note for found, _ in read(GitRepository(tmp_path / "shallow", commits=True)).values()] == ["third"]


def test_a_repository_that_names_objects_by_sha256_is_read_without_checksums(tmp_path: Path, read) -> None:
    folder = tmp_path / "new"
    where = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(folder)], check=True)
    (folder / "w").write_bytes(b"1")
    subprocess.run([*where, "add", "w"], check=True)
    subprocess.run([*where, "commit", "--quiet", "--message", "one"], check=True)
    ((offered, files),) = read(GitRepository(folder)).values()
    assert files == {"w": b"1"}
    with offered.open() as opened:
        assert not opened.checksums


@pytest.mark.parametrize("name", [b"\xff.bin", b"con", b"a\\b"])
def test_a_name_that_no_artifact_may_hold_is_told(repository: Path, git: Git, name: bytes, unreadable) -> None:
    blob = git("rev-parse", "HEAD:config.json")
    tree = written(repository, "tree", b"100644 " + name + b"\0" + bytes.fromhex(blob))
    git("update-ref", "refs/heads/main", git("commit-tree", tree, "-m", "odd"))
    (message,) = unreadable(GitRepository(repository)).values()
    assert "unsafe entry path" in message


def test_many_files_of_any_length_come_out_whole(repository: Path, git: Git, read) -> None:
    content = {f"many/{n}": bytes([n % 256]) * (n * 37) for n in range(300)} | {"large": b"\n\0" * 2_000_000}
    (repository / "many").mkdir()
    for name, data in content.items():
        (repository / name).write_bytes(data)
    commit(git, "many")
    *_, (_, files) = read(GitRepository(repository)).values()
    assert {name: files[name] for name in content} == content
