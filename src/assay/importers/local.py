"""Locations that other systems write down, as paths of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from assay.artifact.collect import collect
from assay.errors import InvalidInput, NotFound
from assay.ports.importers import Files

SERVED = "mlflow-artifacts:"
"""What begins the location of files that an MLflow server hands out itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a location that is written down there can be read here.

    Args:
        under: where relative paths are counted from.
        folders: beginning of a location to the folder of this machine that holds what lies there. When there are any,
            nothing outside these folders is read.
    """

    under: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)

    def path(self, location: str) -> Path:
        """The path that a location means.

        Raises:
            NotFound: it lies elsewhere (code ``location-elsewhere``).
            InvalidInput: it leads out of the folder that was named for it (code ``link-outside``).
        """
        if not self.folders:
            return local_path(location, under=self.under)
        plain = _plain(location)
        for beginning, folder in self.folders.items():
            start = _plain(beginning)
            if plain == start or plain.startswith(start if start.endswith((":", "/")) else f"{start}/"):
                path = folder / plain.removeprefix(start).lstrip("/")
                if "\0" in plain or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                    raise InvalidInput(
                        f"its location {location!r:.300} leads out of {folder}",
                        code="link-outside",
                        hint="name the folder that it leads to as well: --artifacts LOCATION=FOLDER",
                    )
                return path
        raise NotFound(
            f"its bytes are at {without_credentials(location)}, which is in no place that --artifacts names",
            code="location-elsewhere",
            hint=f"--artifacts {without_credentials(location).rpartition('/')[0] or 'LOCATION'}=FOLDER",
        )


def local_path(location: str, *, under: Path | None = None) -> Path:
    """The path that a location means.

    Args:
        location: a path, or a ``file:`` URI.
        under: where relative paths are counted from.

    Raises:
        NotFound: it lies elsewhere (code ``location-elsewhere``).
    """
    parts = _split(location)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    if location.startswith(SERVED):
        raise NotFound(
            f"its bytes are at {location}: in the folder that the MLflow server was started with",
            code="location-elsewhere",
            hint="--artifacts FOLDER names that folder (--artifacts-destination); or import from the server's address",
        )
    if parts.scheme:
        raise NotFound(
            f"its bytes are at {without_credentials(location)}, which cannot be reached as files from here",
            code="location-elsewhere",
            hint="mount or download them, then --artifacts LOCATION=FOLDER",
        )
    path = Path(location)
    return path if path.is_absolute() or under is None else under / path


def without_credentials(uri: str) -> str:
    """A URI without user and password.

    >>> without_credentials("postgresql://ada:secret@db.example/mlflow")
    'postgresql://db.example/mlflow'
    """
    parts = _split(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextmanager
def files_in(path: Path) -> Iterator[Files]:
    """Every file under a path; a single file under its own name.

    Raises:
        NotFound: nothing is there (code ``location-missing``).
    """
    try:
        there = path.exists()
    except OSError as error:
        raise NotFound(f"its bytes should be at {path!s:.300}: {error.strerror}", code="location-missing") from error
    if not there:
        raise NotFound(
            f"its bytes should be at {path}, and nothing is there",
            code="location-missing",
            hint="the other registry has lost them, or they lie elsewhere: --artifacts LOCATION=FOLDER",
        )
    yield Files(collect(path, everything=True))


def small_file(file: Path, limit: int) -> bytes | None:
    """The bytes of a small file; None when there is none, or it is a link, a pipe or larger than *limit*."""
    try:
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        return file.read_bytes()
    except (OSError, ValueError):
        return None


def _plain(location: str) -> str:
    """A location without host and credentials where its scheme names the place, and without a slash at the end."""
    parts = _split(location)
    if parts.scheme == "file":
        return unquote(parts.path).rstrip("/")
    if location.startswith(SERVED):
        return f"{SERVED}/{unquote(parts.path).strip('/')}" if parts.path.strip("/") else SERVED
    return without_credentials(location).rstrip("/")


def _split(location: str) -> SplitResult:
    try:
        return urlsplit(location)
    except ValueError as error:
        raise NotFound(f"its location {location!r:.200} is no place: {error}", code="location-elsewhere") from error
