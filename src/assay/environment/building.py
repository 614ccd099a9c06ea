"""Clean environments: a virtual environment per set of requirements, made by uv or pip, kept and used again.

Only wheels are installed unless the person says otherwise: building from source runs code of the package here, outside
of any sandbox. For the same reason nothing is ever started in an environment once something was installed in it. An
environment counts when its mark is there, which is written last; whoever makes one holds its lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from assay.environment.installing import explain, pip_is_configured, uv_is_configured
from assay.environment.interpreters import Interpreter, unbuildable
from assay.environment.requirements import Wanted
from assay.errors import CouldNot, StorageError

BUILDERS = ("auto", "uv", "pip")
MARK = "assay-environment.json"
KEPT_DAYS = 30
"""Days after its last use when an environment is removed by the next one that is made."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to build.

    Args:
        builder: one of ``BUILDERS``; ``auto`` takes uv when it is present and no index is configured for pip only.
        indexes: addresses of package indexes, the first instead of the configured one.
        from_source: whether packages without a wheel may be built, which runs their code here.
        cache: folder for environments; None makes one that is gone afterwards.
    """

    builder: str = "auto"
    indexes: tuple[str, ...] = ()
    from_source: bool = False
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is there.

    Args:
        folder: of the virtual environment.
        python: its interpreter.
        builder: what made it.
        seconds: that making it took.
        installed: distribution to version.
        reused: whether it was there before.
    """

    folder: Path
    python: Path
    builder: str
    seconds: float
    installed: Mapping[str, str]
    reused: bool = False


@contextmanager
def environment_for(
    wanted: Wanted, python: Interpreter, options: Options, *, told: Callable[[str], None]
) -> Iterator[Environment]:
    """The environment for a set of requirements, made when it is not there.

    Raises:
        CouldNot: it cannot be made; the message says which requirement or what else stands in the way.
        StorageError: there is no place for it.
    """
    builder, program = _builder(options)
    if options.cache is None:
        with tempfile.TemporaryDirectory(prefix="assay-environment-") as scratch:
            yield _make(Path(scratch) / "venv", wanted, python, (builder, program), options, told)
        return
    key = _key(wanted, python, builder, options)
    folder = options.cache / key
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
        lock = (options.cache / f"{key}.lock").open("w")
    except OSError as error:
        raise StorageError.of(error, f"cannot keep environments in {options.cache}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # nobody removes it while it is used
        found = _found(folder)
        if found is None:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that make the same, the second finds what the first made
            found = _found(folder)
            if found is None:
                _forget_old(options.cache)
                shutil.rmtree(folder, ignore_errors=True)
                found = _make(folder, wanted, python, (builder, program), options, told)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield found


def _make(
    folder: Path,
    wanted: Wanted,
    python: Interpreter,
    builder: tuple[str, Sequence[str]],
    options: Options,
    told: Callable[[str], None],
) -> Environment:
    name, program = builder
    begun = time.monotonic()
    told(f"making an environment of Python {python.version}")
    with tempfile.TemporaryDirectory(prefix="assay-requirements-") as scratch:
        lines = Path(scratch) / "requirements.txt"
        lines.write_text("\n".join((*wanted.requirements, *wanted.own)) + "\n", "utf-8")
        limits = Path(scratch) / "constraints.txt"
        limits.write_text("\n".join(wanted.constraints) + "\n", "utf-8")
        if name == "uv":
            create = [*program, "venv", "--quiet", "--python", str(python.path), str(folder)]
            install = [*program, "pip", "install", "--python", str(folder / "bin" / "python")]
            # Else the index gives the build for CUDA, gigabytes of it; who names places of their own knows better.
            own = bool(options.indexes) or uv_is_configured()
            install += ["--torch-backend", "cpu"] if wanted.cpu and not own else []
        else:
            create = [str(python.path), "-I", "-m", "venv", "--without-pip", str(folder)]
            install = [*program, "--python", str(folder / "bin" / "python"), "install", "--no-input"]
            install += ["--disable-pip-version-check", "--no-warn-script-location"]
        install += ["-r", str(lines), *_indexes(options.indexes)]
        install += ["-c", str(limits)] if wanted.constraints else []  # it would replace what the person configured
        install += [] if options.from_source else ["--only-binary", ":all:"]
        try:
            _run(create, Path(scratch), told, name, wanted)
            _run(install, Path(scratch), told, name, wanted)
            if name == "uv":
                _compile(folder, python)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    took = time.monotonic() - begun
    found = Environment(folder, folder / "bin" / "python", name, took, _installed(folder))
    _mark(found)
    return found


def _compile(folder: Path, python: Interpreter) -> None:
    """Compile the libraries, so that a cold start does not; pip does so while it installs.

    By the installation behind the environment: uv would start the environment's own interpreter, which runs whatever
    ``.pth`` files were installed.
    """
    command = [str(python.path), "-I", "-S", "-m", "compileall", "-q", "-j", "0", *map(str, _sites(folder))]
    subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - what does not compile is read as it is


def _run(command: Sequence[str], folder: Path, told: Callable[[str], None], builder: str, wanted: Wanted) -> None:
    """Run a step of the installer, passing on what it says.

    Raises:
        CouldNot: it failed; the message is one sentence made of what it said.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    try:
        with subprocess.Popen(  # noqa: S603 - the installer, with names and versions that were checked
            command,
            cwd=folder,  # neither tool may read settings of the folder we happen to be in
            env={**environ, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # to be ended with all that it has started
        ) as process:
            assert process.stdout is not None
            lines: list[str] = []
            try:
                for line in process.stdout:
                    lines.append(line.rstrip())
                    told(line.strip())
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except OSError as error:
        raise unbuildable(command[0], error.strerror or str(error)) from error
    if process.returncode != 0:
        raise explain(builder, lines, wanted.requirements)


def _indexes(indexes: Sequence[str]) -> list[str]:
    first, more = indexes[:1], indexes[1:]
    return [part for url in first for part in ("--index-url", url)] + [
        part for url in more for part in ("--extra-index-url", url)
    ]


def _builder(options: Options) -> tuple[str, Sequence[str]]:
    """The installer and the command that starts it.

    Raises:
        CouldNot: there is none (code ``no-installer``).
    """
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    pip = [sys.executable, "-I", "-m", "pip"] if find_spec("pip") else None
    if pip is None and (program := shutil.which("pip")):
        pip = [program]
    if options.builder != "pip" and uv is not None:
        # uv reads none of pip's settings: what comes from a place that only pip knows, it would not find.
        settled = options.builder == "uv" or options.indexes or uv_is_configured()
        if settled or pip is None or not pip_is_configured(pip):
            return "uv", [uv]
    if options.builder != "uv" and pip is not None:
        return "pip", pip
    missing = "uv" if options.builder == "uv" else "pip" if options.builder == "pip" else "uv nor pip"
    raise CouldNot(
        f"{missing} is not installed, and an environment cannot be built without",
        code="no-installer",
        hint="pip install uv; or --environment names an environment that you have",
    )


def _key(wanted: Wanted, python: Interpreter, builder: str, options: Options) -> str:
    body = [
        [*wanted.requirements],
        [*wanted.constraints],
        [*wanted.own],
        str(python.path),
        python.version,
        platform.machine(),
        builder,
        [*options.indexes],
        options.from_source,
        wanted.cpu,
    ]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:24]


def _installed(folder: Path) -> dict[str, str]:
    """What lies in an environment, read from its files."""
    found = {
        str(one.metadata["Name"]): one.version for one in distributions(path=[str(site) for site in _sites(folder)])
    }
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _sites(folder: Path) -> list[Path]:
    return [site for site in folder.glob("lib*/python*/site-packages") if not site.parent.parent.is_symlink()]


def _mark(made: Environment) -> None:
    body = {"builder": made.builder, "seconds": made.seconds, "installed": dict(made.installed)}
    try:
        scratch = made.folder / f".{MARK}"
        scratch.write_text(json.dumps(body), "utf-8")
        scratch.replace(made.folder / MARK)
    except OSError as error:
        raise StorageError.of(error, f"cannot finish the environment in {made.folder}") from error


def _found(folder: Path) -> Environment | None:
    """The environment that is there, when it is whole."""
    mark, python = folder / MARK, folder / "bin" / "python"
    try:
        body = json.loads(mark.read_text("utf-8"))
        mark.touch()
        if not python.exists():  # the installation behind it is gone
            return None
        installed = {str(name): str(version) for name, version in body["installed"].items()}
        return Environment(folder, python, str(body["builder"]), 0.0, installed, reused=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _forget_old(cache: Path) -> None:
    """Remove environments that nobody used for ``KEPT_DAYS`` and nobody uses now."""
    oldest = time.time() - KEPT_DAYS * 86_400
    for mark in cache.glob(f"*/{MARK}"):
        try:
            if mark.stat().st_mtime >= oldest:
                continue
            with (cache / f"{mark.parent.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            continue
