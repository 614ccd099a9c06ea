"""A home in a bucket: its marker, its rules, and the local folder for what is made from it (``docs/spec/home.md``).

    BUCKET/PREFIX/
      assay.json         format version and id of the home; created conditionally
      writer.json        who writes the names (``assay.catalog.bucket_writer``)
      journal/           what happened to names (``assay.catalog.bucket_journal``)
      policy.toml  promotion.toml  retention.toml     what holds for whoever uses this registry; optional
      blobs/ packs/ ...  see ``assay.blobs.bucket``

Rules are copied into the local folder whenever the registry is opened, so that those read there are the bucket's.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from assay.blobs.mounts import network_mount
from assay.errors import InvalidInput, NotFound, StorageError
from assay.ports.objects import Objects
from assay.spec.json import canonical

FORMAT = 1
"""Format version of homes in buckets; counted for itself. The first one has packs."""
MARKER = "assay.json"
RULES = ("policy.toml", "promotion.toml", "retention.toml")
_OURS = frozenset(
    (MARKER, "writer.json", "journal", "blobs", "packs", "touched", "holds", "sweeps", "turns", "damaged", *RULES)
)
_ID_FILE = "registry-id"
_ID = re.compile(r"\A[0-9a-f]{32}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class BucketHome:
    """A home in a bucket.

    Args:
        id: drawn when it was made; tells it from another one in the same place.
        format: its format version.
        created: when it was made, UTC.
    """

    id: str
    format: int
    created: datetime


def open_bucket_home(objects: Objects, state: Path, *, create: bool = False) -> BucketHome:
    """Open the home in a bucket, and make its local folder what it must be.

    Args:
        objects: the bucket.
        state: the local folder; made when it is not there. One that belongs to a home that lay here before is moved
            aside.
        create: make the home when it is not there.

    Raises:
        NotFound: it is not there (code ``home-missing``).
        InvalidInput: other things lie there (code ``not-a-home``).
        StorageError: its marker is missing or damaged (``home-damaged``), its format is newer (``home-too-new``), the
            local folder lies on a network file system (``network-filesystem``), or one of the two cannot be used.
    """
    home = _read(objects)
    if home is None:
        home = _create(objects, create=create)
    if home.format > FORMAT:
        raise StorageError(
            f"{objects.place} has format {home.format}, this release understands up to {FORMAT}",
            code="home-too-new",
            hint="upgrade: pip install --upgrade assay",
        )
    _refuse_network(state)
    _with_state(state, lambda: _adopt(state, home.id))
    refresh_rules(objects, state)
    return home


def refresh_rules(objects: Objects, state: Path) -> None:
    """Make the rules in the local folder those that the bucket holds now.

    Raises:
        StorageError: they cannot be read, or not be written here.
    """

    def one(name: str) -> None:
        try:
            data = objects.get(name)
        except NotFound:
            (state / name).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            if (state / name).read_bytes() == data:
                return
        _write(state / name, data)

    def every() -> None:
        state.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(len(RULES)) as pool:
            list(pool.map(one, RULES))

    _with_state(state, every)


def _read(objects: Objects) -> BucketHome | None:
    try:
        body = json.loads(objects.get(MARKER))
        created = datetime.fromisoformat(body["created"]).astimezone(UTC)
        (name,) = _ID.findall(body["id"])  # it becomes a part of a folder's name
        return BucketHome(name, int(body["format"]), created)
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StorageError(
            f"{objects.place}/{MARKER} is damaged",
            code="home-damaged",
            hint="put it back from a backup or an earlier version of the object",
        ) from error


def _create(objects: Objects, *, create: bool) -> BucketHome:
    if next(iter(objects.list("journal/")), None) is not None:
        raise StorageError(
            f"{objects.place} was a registry, but its {MARKER} is missing",
            code="home-damaged",
            hint='put it back; it reads {"created":"2026-01-31T12:00:00Z","format":1,"id":"<any 32 hex digits>"}',
        )
    if not create:
        raise NotFound(
            f"no registry at {objects.place}", code="home-missing", hint="push something first: that makes it"
        )
    names = {found.key.partition("/")[0] for found in islice(objects.list(""), 1000)}
    if foreign := sorted(names - _OURS):
        raise InvalidInput(
            f"{objects.place} holds other things ({', '.join(foreign[:3])}), so it is not made a registry",
            code="not-a-home",
            hint="name another prefix: s3://BUCKET/PREFIX",
        )
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    objects.put_if_absent(MARKER, canonical({"created": created, "format": FORMAT, "id": secrets.token_hex(16)}))
    home = _read(objects)  # somebody else may have been faster
    if home is None:
        raise StorageError(f"{objects.place}/{MARKER} is gone again", code="home-damaged", hint="run it again")
    return home


def _adopt(state: Path, home: str) -> None:
    """Make the folder this home's own."""
    state.mkdir(parents=True, exist_ok=True)
    file = state / _ID_FILE
    known = file.read_text("ascii").strip() if file.exists() else ""
    if known and known != home:
        state.rename(state.with_name(f"{state.name}.was-{known[:8]}-{secrets.token_hex(4)}"))
        state.mkdir(exist_ok=True)
    if known != home:
        _write(file, home.encode())


def _write(file: Path, data: bytes) -> None:
    drawn = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        drawn.write_bytes(data)
        drawn.replace(file)
    finally:
        drawn.unlink(missing_ok=True)


def _with_state(state: Path, call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        raise StorageError.of(error, f"cannot use the local folder {state}", path=str(state)) from error


def _refuse_network(state: Path) -> None:
    found = network_mount(state, None)
    if found is not None:
        raise StorageError(
            f"{state} lies on a network file system ({found[1]}, mounted at {found[0]}), where SQLite loses data",
            code="network-filesystem",
            hint="set ASSAY_STATE to a folder on a local disk: what lies there is made from the bucket",
            path=str(state),
        )
