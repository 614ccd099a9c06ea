"""The state of the code that trains: the git commit of the current folder, and whether it differs from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from assay.environment.redaction import redact_text, redact_url
from assay.spec.json import Json

TIMEOUT = 5
"""Seconds that one git command may take; a huge working tree is then of unknown state."""


def git_state(folder: Path | None = None) -> dict[str, Json] | None:
    """Commit, branch, remote and dirtiness of the repository that *folder* (the current one) lies in.

    None when it is in none, or when there is no git. ``dirty`` is None when git did not say in time.
    """
    where = folder or Path.cwd()
    commit = _git(["rev-parse", "HEAD"], where)
    if not commit:
        return None
    state: dict[str, Json] = {"commit": commit}
    branch = _git(["symbolic-ref", "--short", "-q", "HEAD"], where)
    if branch:
        state["branch"] = redact_text(branch)
    remote = _git(["config", "--get", "remote.origin.url"], where)
    if remote:
        state["remote"] = redact_url(remote)
    status = _git(["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty"], where)
    state["dirty"] = None if status is None else bool(status)
    return state


def _git(arguments: Sequence[str], where: Path) -> str | None:
    """The output of a git command, or None when it failed. It takes no locks, asks nobody and runs no hooks."""
    git = which("git")
    if git is None:
        return None
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = [git, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program with fixed arguments
            command, cwd=where, env={**os.environ, **quiet}, capture_output=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
