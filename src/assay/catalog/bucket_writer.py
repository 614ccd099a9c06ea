"""Who may write the names of a bucket: one machine, or one database through which many write.

    writer.json    {"host":"lab-3","id":"9f…","kind":"machine","since":"2026-01-31T12:00:00Z","user":"ada"}

It is created conditionally, so that of two who come first one is the writer. The id is kept by whom it names: a machine
in its local folder of the bucket, a database in its rows. Host and user are for people.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from assay.errors import Conflict, NotFound, StorageError
from assay.ports.objects import Objects
from assay.spec.json import Json, canonical

KEY = "writer.json"
MACHINE = "machine"
POSTGRESQL = "postgresql"
_ID_FILE = "writer-id"


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes.

    Args:
        kind: ``machine`` or ``postgresql``.
        id: drawn at random, kept by whom it names.
        host: name of the machine on which it was claimed.
        user: who claimed it.
        since: when, UTC, as text.
    """

    kind: str
    id: str
    host: str
    user: str
    since: str

    def __str__(self) -> str:
        """As people are told."""
        if self.kind == POSTGRESQL:
            return f"a PostgreSQL catalog (since {self.since}, set up by {self.user} on {self.host})"
        return f"{self.user} on {self.host} (since {self.since})"


class BucketWriter:
    """The right to write to a bucket.

    Args:
        objects: the bucket.
        kind: as what this process writes.
        own: the id as which it writes.
    """

    def __init__(self, objects: Objects, kind: str, own: str) -> None:
        self._objects = objects
        self._place = objects.place
        self._kind = kind
        self._own = own

    def check(self) -> None:
        """Make sure that this process may write; who comes first becomes the writer.

        Raises:
            Conflict: somebody else is (code ``bucket-has-writer``).
        """
        found = self.now()
        if found is None:
            self._objects.put_if_absent(KEY, _encoded(_new(self._kind, self._own)))
            found = self.now()
        if found is None or found.id != self._own:
            raise self._held(found)

    def now(self) -> Writer | None:
        """Who the writer is; None as long as nobody is.

        Raises:
            StorageError: what is written there cannot be read (code ``bucket-damaged``).
        """
        try:
            body = json.loads(self._objects.get(KEY))
            return Writer(*(str(body[name]) for name in ("kind", "id", "host", "user", "since")))
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{self._place}/{KEY} does not say who writes",
                code="bucket-damaged",
                hint="assay reindex --take-over makes this machine the writer",
            ) from error

    def take_over(self) -> None:
        """Become the writer, whoever is.

        Raises:
            Conflict: somebody else took over at the same moment (code ``bucket-has-writer``).
        """
        self._objects.put(KEY, _encoded(_new(self._kind, self._own)))
        found = self.now()
        if found is None or found.id != self._own:
            raise self._held(found)

    def _held(self, found: Writer | None) -> Conflict:
        if found is not None and found.kind == POSTGRESQL and self._kind != POSTGRESQL:
            hint = "set ASSAY_CATALOG to that database; assay reindex --take-over leaves it"
        else:
            hint = "write there, or make this the writer: assay reindex --take-over"
        return Conflict(
            f"{self._place} is written by {found or 'somebody else'}; nothing was changed",
            code="bucket-has-writer",
            hint=hint,
        )


def machine_id(state: Path) -> str:
    """The id as which this machine writes to the bucket whose local folder this is; drawn when there is none."""
    file = state / _ID_FILE
    try:
        return _read_id(file) or new_machine_id(state, replace=False)
    except OSError as error:
        raise StorageError.of(error, f"cannot keep who writes in {state}", path=str(file)) from error


def new_machine_id(state: Path, *, replace: bool = True) -> str:
    """Draw another id; without *replace* one that somebody drew meanwhile counts."""
    file = state / _ID_FILE
    drawn = file.with_name(f".{_ID_FILE}-{secrets.token_hex(8)}")
    drawn.write_text(secrets.token_hex(16))
    try:
        if replace:
            drawn.replace(file)
        else:
            os.link(drawn, file)
    except FileExistsError:
        pass
    finally:
        drawn.unlink(missing_ok=True)
    return _read_id(file)


def _read_id(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except FileNotFoundError:
        return ""


def _new(kind: str, own: str) -> Writer:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Writer(kind, own, socket.gethostname(), user, since)


def _encoded(writer: Writer) -> bytes:
    body: dict[str, Json] = asdict(writer)
    return canonical(body)
