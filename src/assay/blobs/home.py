"""A home: the folder of the embedded default. Its layout is drawn in ``docs/spec/home.md``.

    ASSAY_HOME/
      assay.json         format version of the home; written last, so a home that has it is complete
      oci-layout         makes the folder an OCI image layout
      index.json         an OCI image index without manifests
      blobs/  staging/   see ``directory``
      packs/             blobs made small, see ``packs``; there since something was first packed (format 2)
      journal.jsonl      what happened to names
      catalog.sqlite3    rows made from the journal
      backups/           journal and rows as they were before a migration
      audits/            findings remembered per rule set and blob; may be removed
      policy.toml        what holds for this registry, whoever uses it; optional
      promotion.toml     what its aliases ask of versions; optional
      retention.toml     which versions are given up when garbage is collected; optional

Rule for editors: a change of anything drawn here raises ``FORMAT`` and adds a step to ``MIGRATIONS``; what only homes
have that use it raises ``NEWEST``, and those homes when they begin to.

Not here: what is in the journal and the rows (``assay.catalog``).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from assay.blobs.mounts import network_mount
from assay.blobs.staging import Staging
from assay.errors import InvalidInput, NotFound, StorageError
from assay.spec.json import Json, canonical
from assay.streams.durable import flush, write_all

FORMAT = 1
"""Format version of the homes that this release makes; older ones are migrated to it."""

PACKED = 2
"""Format version of homes with packed blobs: earlier releases would take those for missing."""

NEWEST = 2
"""The newest format version that this release understands."""

Migration = Callable[[Path], None]
"""Brings the folder of a home from one format to the next; may be run again after a crash."""

MIGRATIONS: Mapping[int, Migration] = {}
"""Format version to the step that leads to the next one. Append-only."""

_MARKER_HINT = 'put it back from a backup; it reads {"created":"2026-01-31T12:00:00Z","format":1}'

_OURS = frozenset(
    "assay.json oci-layout index.json blobs staging packs journal.jsonl catalog.sqlite3 catalog.sqlite3-wal "
    "catalog.sqlite3-shm backups damaged snapshots trials audits lineage sketches tensors policy.toml promotion.toml "
    "retention.toml lost+found".split()
)
_OCI_LAYOUT: Json = {"imageLayoutVersion": "1.0.0"}
_OCI_INDEX: Json = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which formats a release understands.

    Args:
        format: of the homes that it makes, and migrates older ones to.
        migrations: how.
        newest: the newest one that it understands; *format* when 0.
    """

    format: int
    migrations: Mapping[int, Migration]
    newest: int = 0


CURRENT = Layout(FORMAT, MIGRATIONS, NEWEST)


@dataclass(frozen=True, slots=True)
class Home:
    """An open home.

    Args:
        root: the folder.
        format: its format version.
        created: when it was made, UTC.
        writable: whether this process may change it.
    """

    root: Path
    format: int
    created: datetime
    writable: bool

    @property
    def journal(self) -> Path:
        """What happened to names."""
        return self.root / "journal.jsonl"

    @property
    def catalog(self) -> Path:
        """Rows made from the journal."""
        return self.root / "catalog.sqlite3"


def open_home(root: Path, *, create: bool = True, layout: Layout = CURRENT, mountinfo: str | None = None) -> Home:
    """Open a home; make it when it is not there, migrate it when it is older.

    Safe against other processes doing the same at the same time. Before a migration, journal and rows are copied to
    ``backups/``.

    Args:
        root: the folder.
        create: make it when it is missing or empty.
        layout: what this release understands.
        mountinfo: the table of mounts; the system's own when None.

    Raises:
        NotFound: it is not there and *create* is False (code ``home-missing``).
        InvalidInput: the folder holds other things (code ``not-a-home``).
        StorageError: its format is newer (``home-too-new``), or older and it may not be written (``home-too-old``); it
            lies on a network file system (``network-filesystem``); it cannot be made or read.
    """
    with _failing(root):
        found = _read(root)
        if found is None:
            _refuse_remains(root)
        if found is None and not create:
            raise NotFound(
                f"no registry at {root}",
                code="home-missing",
                hint="push something first: that makes it",
                path=str(root),
            )
        writable = found is None or os.access(root, os.W_OK | os.X_OK)
        if writable:
            _refuse_network(root, mountinfo)
        if found is None:
            found = _create(root, layout)
        if found.format < layout.format:
            found = _migrate(root, layout, writable=writable)
        if found.format > max(layout.format, layout.newest):
            raise StorageError(
                f"{root} has format {found.format}, this release understands up to {max(layout.format, layout.newest)}",
                code="home-too-new",
                hint="upgrade: pip install --upgrade assay",
                path=str(root),
            )
        return Home(root, found.format, found.created, writable)


def raise_format(root: Path, least: int = PACKED) -> None:
    """Keep releases out that do not understand what a home is going to hold; nothing else in it changes.

    Args:
        root: the folder; nothing happens where it is no home.
        least: the format that it has afterwards, or a newer one.

    Raises:
        StorageError: it cannot be written.
    """
    with _failing(root), _locked(root):
        found = _read(root)
        if found is not None and found.format < least:
            _write_marker(root, _Marker(least, found.created))


def _refuse_remains(root: Path) -> None:
    """Refuse what is no home but was one, or can be none; a folder where a home was begun is completed."""
    if root.exists() and not root.is_dir():
        raise InvalidInput(
            f"{root} is a file; a registry is a folder",
            code="not-a-home",
            hint="name another place with --home or ASSAY_HOME",
            path=str(root),
        )
    if (root / "journal.jsonl").exists():
        raise StorageError(
            f"{root} was a registry, but its assay.json is missing",
            code="home-damaged",
            hint=_MARKER_HINT,
            path=str(root),
        )


@dataclass(frozen=True, slots=True)
class _Marker:
    format: int
    created: datetime


def _read(root: Path) -> _Marker | None:
    try:
        body = json.loads((root / "assay.json").read_bytes())
        return _Marker(int(body["format"]), datetime.fromisoformat(body["created"]).astimezone(UTC))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{root / 'assay.json'} is damaged: {error}",
            code="home-damaged",
            hint=_MARKER_HINT,
            path=str(root),
        ) from error


def _create(root: Path, layout: Layout) -> _Marker:
    if root.exists() and not root.is_dir():
        raise InvalidInput(f"{root} is a file, not a folder", code="not-a-home", path=str(root))
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        found = _read(root)
        if found is not None:  # another process was faster
            return found
        foreign = sorted(name for name in os.listdir(root) if name not in _OURS)  # noqa: PTH208 - names are enough
        if foreign:
            raise InvalidInput(
                f"{root} holds other things ({', '.join(foreign[:3])}), so it is not made a registry",
                code="not-a-home",
                hint="set ASSAY_HOME to a new or empty folder",
                path=str(root),
            )
        for folder in ("blobs/sha256", "staging"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        _write(root, "oci-layout", _OCI_LAYOUT)
        if not (root / "index.json").exists():
            _write(root, "index.json", _OCI_INDEX)
        marker = _Marker(layout.format, datetime.now(UTC).replace(microsecond=0))
        _write_marker(root, marker)
        flush(root.parent)
        return marker


def _migrate(root: Path, layout: Layout, *, writable: bool) -> _Marker:
    with _locked(root):
        found = _read(root)
        assert found is not None
        if found.format >= layout.format:  # another process was faster
            return found
        if not writable:
            raise StorageError(
                f"{root} has format {found.format} and must be migrated to {layout.format}, but it is read-only",
                code="home-too-old",
                hint="open it once where it may be written, for instance: assay ls",
                path=str(root),
            )
        (root / "journal.jsonl").touch()
        with _locked(root / "journal.jsonl"):  # keeps writers of the catalog out
            _back_up(root, found)
            while found.format < layout.format:
                layout.migrations[found.format](root)
                found = _Marker(found.format + 1, found.created)
                _write_marker(root, found)
        return found


def _back_up(root: Path, marker: _Marker) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = root / "backups" / f"format-{marker.format}-{stamp}"
    target.mkdir(parents=True)
    for name in ("assay.json", "journal.jsonl", "catalog.sqlite3", "catalog.sqlite3-wal"):
        if (root / name).exists():
            shutil.copyfile(root / name, target / name)
            flush(target / name)
    flush(target)
    flush(target.parent)
    flush(root)


def _write_marker(root: Path, marker: _Marker) -> None:
    created = marker.created.isoformat(timespec="seconds").replace("+00:00", "Z")
    _write(root, "assay.json", {"created": created, "format": marker.format})


def _write(root: Path, name: str, value: Json) -> None:
    with Staging(root / "staging").new(mode=0o666) as staged:
        write_all(staged.descriptor, canonical(value))
        os.fsync(staged.descriptor)
        staged.path.replace(root / name)
    flush(root)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold off other processes that lock the same folder or file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _failing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError.of(error, f"cannot open the registry {root}", path=str(root)) from error


def _refuse_network(root: Path, mountinfo: str | None) -> None:
    found = network_mount(root, mountinfo)
    if found is not None:
        point, kind = found
        raise StorageError(
            f"{root} lies on a network file system ({kind}, mounted at {point}), where SQLite loses data",
            code="network-filesystem",
            hint="set ASSAY_HOME to a folder on a local disk, and share through a server or a bucket",
            path=str(root),
        )
