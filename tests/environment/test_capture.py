"""What is captured: what the model needs, the state of the code, the machine; and nothing that is nobody's business."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.environment.capture import capture
from assay.environment.code import git_state
from assay.environment.modules import distributions_of, needed_packages, reachable


class Wrapper:
    def __init__(self, inner: object) -> None:
        self.inner = inner


def test_the_packages_of_nested_objects_are_found_and_the_standard_library_is_not() -> None:
    model = Wrapper({"a": [Wrapper(np.arange(3)), Path("x")]})

    found = needed_packages(model, ["yaml.nodes"])

    assert {"numpy", "yaml", Wrapper.__module__.partition(".")[0]} == set(found)


def test_functions_held_as_values_count_too() -> None:
    assert "numpy" in needed_packages(Wrapper(np.mean))


def test_cycles_and_huge_containers_end() -> None:
    model: Any = Wrapper(None)
    model.inner = [model, *range(1_000_000)]

    assert len(list(reachable(model))) == 2


def test_an_object_that_resists_being_looked_at_is_passed_over() -> None:
    class Odd(dict[str, object]):
        def values(self) -> Any:
            raise RuntimeError("no")

    assert list(reachable(Odd())) != []


def test_distributions_come_with_their_requirements_and_versions() -> None:
    found, local = distributions_of(["click", "rich", "no_such_package"])

    assert found["click"] == version("click")
    assert {"markdown-it-py", "pygments", "mdurl"} <= set(found)
    assert "sqlalchemy" not in found
    assert local == ("no_such_package",)


@pytest.mark.framework
def test_a_pipeline_needs_scikit_learn_and_what_it_requires_but_not_the_whole_environment() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    body = capture(make_pipeline(LogisticRegression()), ["sklearn"])

    found = body["distributions"]
    assert isinstance(found, dict)
    assert {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"} <= set(found)
    assert not {"torch", "pytest", "tensorflow-cpu", "sqlalchemy"} & set(found)


def test_the_record_is_json_and_says_where_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/somebody/train.py", "--token=abcdef", "--epochs", "3"])

    body = json.loads(json.dumps(capture(Wrapper(1)), allow_nan=False))

    assert body["python"]["version"] == platform.python_version()
    assert body["platform"]["machine"] == platform.machine()
    assert body["command"] == ["<path>/train.py", "--token=<redacted>", "--epochs", "3"]
    assert body["hardware"]["cores"] == os.cpu_count()
    assert body["hardware"]["memory"] > 1 << 20


def test_no_environment_variable_host_or_user_name_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_SECRET", "planted-value-123")
    monkeypatch.setenv("HF_TOKEN", "planted-value-456")

    text = json.dumps(capture(Wrapper(1)))

    assert "planted-value" not in text
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert str(Path.home()) not in text or len(str(Path.home())) < 2
    user = getpass.getuser()
    assert user in ("root", "user") or user not in text


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=trunk"]
    return subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_of_a_clean_repository_is_recorded(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://joe:secret@example.org/team/repo.git")

    assert git_state(repository) == {
        "commit": git(repository, "rev-parse", "HEAD").strip(),
        "branch": "trunk",
        "remote": "https://example.org/team/repo.git",
        "dirty": False,
    }


def test_a_changed_file_makes_it_dirty_and_an_untracked_one_does_not(repository: Path) -> None:
    (repository / "notes.txt").write_text("x")
    state = git_state(repository)
    assert state is not None
    assert state["dirty"] is False

    (repository / "train.py").write_text("2")
    state = git_state(repository)
    assert state is not None
    assert state["dirty"] is True


def test_a_repository_cannot_make_git_run_its_programs(repository: Path) -> None:
    marker = repository.parent / f"{repository.name}-marker"
    script = repository / "monitor.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(script))

    git_state(repository)

    assert not marker.exists()


def test_outside_a_repository_and_without_git_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None

    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
