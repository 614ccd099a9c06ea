"""Locations that other systems write down, as paths of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from assay.artifact.collect import collect
from assay.errors import NotFound
from assay.ports.importers import Files


def local_path(location: str, *, under: Path | None = None) -> Path:
    """The path that a location means.

    Args:
        location: a path, or a ``file:`` URI.
        under: where relative paths are counted from.

    Raises:
        NotFound: it lies elsewhere (code ``location-elsewhere``).
    """
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    if parts.scheme:
        raise NotFound(
            f"its bytes are at {without_credentials(location)}, which cannot be reached as files from here",
            code="location-elsewhere",
            hint="bring them to this machine (mount or download them), then import that folder",
        )
    path = Path(location)
    return path if path.is_absolute() or under is None else under / path


def without_credentials(uri: str) -> str:
    """A URI without user and password.

    >>> without_credentials("postgresql://ada:secret@db.example/mlflow")
    'postgresql://db.example/mlflow'
    """
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@contextmanager
def files_in(path: Path) -> Iterator[Files]:
    """Every file under a path; a single file under its own name.

    Raises:
        NotFound: nothing is there (code ``location-missing``).
    """
    if not path.exists():
        raise NotFound(
            f"its bytes should be at {path}, and nothing is there",
            code="location-missing",
            hint="the other registry has lost them, or they lie on another machine",
        )
    yield Files(collect(path, everything=True))
