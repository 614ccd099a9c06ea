"""Python interpreters: which one to build an environment with, and where its parts lie."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from assay.errors import CouldNot, NotFound
from assay.settings import expanded

_ASK = (
    "import json, platform, sys, sysconfig; print(json.dumps([platform.python_version(), sys.prefix, sys.base_prefix, "
    "getattr(sys, '_base_executable', sys.executable), sysconfig.get_path('purelib'), sysconfig.get_path('platlib')]))"
)
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python.

    Args:
        path: its program.
        version: ``3.11.7``.
        folders: what it needs to be able to read.
        base: the program of the installation behind it, itself where it is no virtual environment.
        site: where its libraries are installed.
    """

    path: Path
    version: str
    folders: tuple[Path, ...]
    base: Path
    site: tuple[Path, ...]

    @property
    def minor(self) -> str:
        """``3.11``."""
        return ".".join(self.version.split(".")[:2])


def ask(path: Path) -> Interpreter:
    """What an interpreter says of itself.

    Raises:
        NotFound: it cannot be started (code ``no-python``).
    """
    path = _program(path)
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the person named, with fixed arguments
            [path, "-I", "-c", _ASK], capture_output=True, timeout=_TIMEOUT, check=True
        )
        version, prefix, base_prefix, base, *site = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NotFound(f"{path} is no Python that can be started: {error}", code="no-python") from error
    folders = tuple(dict.fromkeys(Path(text) for text in (prefix, base_prefix, *site)))
    return Interpreter(path, version, folders, Path(base or path), tuple(dict.fromkeys(map(Path, site))))


def find(asked: str | None, recorded: str | None) -> Interpreter:
    """The interpreter to build with: the one asked for, else one of the recorded minor version.

    Args:
        asked: a path, or a version such as ``3.12``.
        recorded: full version that the model was made with; the running interpreter's when None.

    Raises:
        NotFound: there is none (code ``no-python``).
    """
    if asked and not re.fullmatch(r"3\.\d+(\.\d+)?", asked):
        found = ask(expanded(asked))
        return ask(found.base)
    version = asked or recorded or platform.python_version()
    minor = ".".join(version.split(".")[:2])
    if minor == ".".join(platform.python_version().split(".")[:2]):
        return ask(ask(Path(sys.executable)).base)
    program = which(f"python{minor}")
    with suppress(NotFound):  # it may be a launcher without that version behind it
        if program is not None and (found := ask(Path(program))).minor == minor:
            return ask(found.base)
    raise NotFound(
        f"no Python {minor} here, " + ("as asked for" if asked else "which the model was made with"),
        code="no-python",
        hint="--python names another one, by version or path",
    )


def _program(path: Path) -> Path:
    """The interpreter of a virtual environment's folder, or the path itself.

    Raises:
        NotFound: there is none (code ``no-python``).
    """
    if path.is_dir():
        path = path / "bin" / "python"
    if not path.is_file():
        raise NotFound(f"there is no interpreter at {path}", code="no-python", hint="name a python, or its environment")
    return path.absolute()


def unbuildable(step: str, detail: str) -> CouldNot:
    """The error of an environment that cannot be made at all."""
    return CouldNot(f"no environment can be made: {step}: {detail:.300}", code="environment-failed")
