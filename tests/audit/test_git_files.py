"""A cloned repository: what git keeps is told by place and content, and hides nothing."""

from __future__ import annotations

import pickle
import subprocess
import zlib
from pathlib import Path

import pytest

from assay.artifact.collect import collect, tree_of
from assay.audit.git_files import git_data
from assay.service.audit import audit
from assay.spec.finding import Severity
from assay.trees import Tree
from assay.wiring.auditing import auditing


def test_a_clone_is_as_safe_as_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model\n" * 50)
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["gc", "-q"]):
        subprocess.run([*run, *command], cwd=tmp_path, check=True)
    (tmp_path / "README.md").write_text("# Another\n" * 50)
    subprocess.run([*run, "commit", "-qam", "second"], cwd=tmp_path, check=True)

    found = audit(tree_of(collect(tmp_path, everything=True)), auditing()).findings

    assert [finding for finding in found if finding.severity is not Severity.NOTE] == []


def test_what_a_mac_leaves_in_a_folder_is_no_danger() -> None:
    tree = Tree.of(
        {".DS_Store": b"\0\0\0\1Bud1" + bytes(6_000), "._model.bin": b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100)}
    )

    found = audit(tree, auditing()).findings

    assert [finding for finding in found if finding.severity is not Severity.NOTE] == []


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        (".git/objects/ab/" + "c" * 38, zlib.compress(b"blob 3\0abc"), True),
        ("sub/.git/index", b"DIRC\0\0\0\2", True),
        (".git/objects/ab/" + "c" * 38, zlib.compress(pickle.dumps([1])), False),
        (".git/model.pkl", pickle.dumps([1]), False),
        ("objects/ab/" + "c" * 38, zlib.compress(b"blob 3\0abc"), False),
        ("index", b"DIRC\0\0\0\2", False),
    ],
)
def test_only_gits_own_files_in_their_place_are_taken_for_such(path: str, data: bytes, expected: bool) -> None:
    assert git_data(Tree.of({path: data}), path) is expected
