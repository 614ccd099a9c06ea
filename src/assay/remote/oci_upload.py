"""Uploading a blob to an OCI registry: in one request, or in pieces that a later process can go on with.

    POST uploads/ -> session     PATCH session [piece] ... -> session     PUT session?digest=...

The session of a large blob is written down after every piece. Whoever goes on asks the registry how far it came; what
it does not know any more begins anew. A registry that takes no pieces gets the blob in a single request.

Every byte is hashed here while it is sent, and the last request is only made when the digest is right: nothing appears
in the registry before. The registry compares once more.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote, urlencode

from assay.errors import IntegrityError, StorageError
from assay.ports.places import Received
from assay.ports.progress import SILENT, Progress
from assay.remote.http import number
from assay.remote.oci_api import PUSH, Api
from assay.spec.digest import Digest
from assay.trees import Source

ONE_REQUEST = 8 << 20
"""Blobs up to this size are sent in one request."""

PIECE = 64 << 20
"""Bytes of a piece."""

BLOCK = 256 << 10
"""Bytes that are handed to the connection at once: the time without progress counts for each."""

LEAST_PIECE = 1 << 20
"""Bytes of the smallest piece that is tried where larger ones are too large."""

FAILURES = 4
"""Attempts in a row that may get no further."""

_BYTES = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_HASHED_PER_SECOND = 50e6
"""Bytes per second that a slow registry looks through before it answers the last request."""


_PASSING = {"place-unreachable", "place-stalled", "registry-busy"}


class _Lost(Exception):
    """The session is of no use any more; the error says why."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(error.message)
        self.error = error


def upload(
    api: Api, digest: Digest, source: Source, *, mounts: tuple[str, ...] = (), progress: Progress = SILENT
) -> Received:
    """Bring a blob into the repository.

    Args:
        api: the repository.
        digest: what the bytes must give.
        source: where they lie.
        mounts: other repositories of the registry that may have it.
        progress: hears of every byte once.

    Raises:
        IntegrityError: the bytes do not match the digest; nothing is kept.
        StorageError: the registry does not take them.
    """
    for other in mounts:
        if _mounted(api, digest, other):
            progress.advance(source.size)
            return Received(source.size, shared=True)
    run = _Upload(api, digest, source, progress)
    return run.whole() if source.size <= ONE_REQUEST else run.in_pieces()


def _mounted(api: Api, digest: Digest, other: str) -> bool:
    """Take the blob from another repository; False where that does not have it or may not be read."""
    try:
        held = api.ask(
            "HEAD", api.url(f"blobs/{digest}", repository=other), others=(api.scope("pull", repository=other),)
        )
        if held.status != 200:
            return False
        url = f"{api.url('blobs/uploads/')}?mount={quote(str(digest))}&from={quote(other, safe='')}"
        answer = api.ask(
            "POST", url, {"Content-Length": "0"}, actions=PUSH, others=(api.scope("pull", repository=other),)
        )
    except StorageError:
        return False
    if answer.status == 202:  # it opened a session instead
        with suppress(StorageError):
            api.ask("DELETE", api.located(answer), actions=PUSH, again=False)
    return answer.status == 201


class _Upload:
    """One blob on its way; ``_at`` is how far the registry has it, and ``_hasher`` has seen as much."""

    def __init__(self, api: Api, digest: Digest, source: Source, progress: Progress) -> None:
        self._api, self._digest, self._source, self._progress = api, digest, source, progress
        self._at, self._told, self._piece = 0, 0, PIECE
        self._hasher = hashlib.new(digest.algorithm)
        self._memory = _Memory(api, digest)

    def whole(self) -> Received:
        """Send it in one request."""
        data = self._read(0, self._source.size)
        self._hasher.update(data)
        self._check(len(data))
        for failures in range(1, FAILURES + 1):
            try:
                self._finish(self._begin(), data)
                break
            except (_Lost, StorageError) as error:
                if self._there():
                    break
                if failures == FAILURES or not _passing(error):
                    raise _told(error) from error
                self._api.http.wait(failures)
        self._tell(len(data))
        return Received(len(data))

    def in_pieces(self) -> Received:
        """Send it in pieces; in a single request where that does not work."""
        session = self._remembered()
        resumed, failures = self._at, 0
        while True:
            before = self._at
            try:
                if session is None:
                    self._rewind(0)
                    session = self._begin()
                self._finish(self._send(session), b"")
                break
            except (_Lost, StorageError) as error:
                if self._there():
                    break
                if not _passing(error):
                    raise
                failures = 1 if self._at > before else failures + 1
                if failures == FAILURES:
                    return self._plainly(error)
                self._api.http.wait(failures)
                session = None if isinstance(error, _Lost) else self._remembered()
        self._memory.forget()
        self._tell(self._source.size)
        return Received(self._source.size, resumed)

    def _plainly(self, before: Exception) -> Received:
        """One request with everything, as a client that knows of no pieces makes it."""
        self._memory.forget()
        self._rewind(0)
        size = self._source.size
        try:
            answer = self._api.ask(
                "PUT",
                _with_digest(self._begin(), self._digest),
                {**_BYTES, "Content-Length": str(size)},
                lambda: self._blocks(0, size),
                actions=PUSH,
                patience=size / _HASHED_PER_SECOND,
                again=False,
            )
        except (_Lost, StorageError) as error:
            if not self._there():
                raise _told(before) from error
        else:
            if answer.status != 201 and not self._there():
                raise self._api.refused(answer)
        self._tell(size)
        return Received(size, plain=True)

    def _begin(self) -> str:
        """Open a session; its URL."""
        answer = self._api.ask("POST", self._api.url("blobs/uploads/"), {"Content-Length": "0"}, actions=PUSH)
        if answer.status != 202:
            raise self._api.refused(answer)
        self._piece = max(self._piece, number(answer.headers.get("oci-chunk-min-length", "")) or 0)
        return self._api.located(answer)

    def _send(self, session: str) -> str:
        """Send what the registry does not have yet; where to finish."""
        self._memory.keep(session)
        while self._at < self._source.size:
            start, stop = self._at, min(self._source.size, self._at + self._piece)
            headers = {**_BYTES, "Content-Length": str(stop - start), "Content-Range": f"{start}-{stop - 1}"}
            body = self._body(start, stop)
            answer = self._api.ask("PATCH", session, headers, body, actions=PUSH, again=False)
            if answer.status == 413 and self._piece > LEAST_PIECE:
                self._piece = max(LEAST_PIECE, self._piece // 4)
                raise _Lost(self._api.refused(answer))
            if answer.status not in {201, 202, 204}:
                raise _Lost(self._api.refused(answer))
            self._at, self._hasher = stop, self._ahead
            session = self._api.located(answer)
            self._memory.keep(session)
        return session

    def _finish(self, session: str, data: bytes) -> None:
        """Make the blob visible, with the last bytes of it.

        Raises:
            IntegrityError: the bytes here do not match; the session is given up.
            _Lost: the registry has other bytes, or knows of no such session.
        """
        try:
            self._check(self._source.size)
        except IntegrityError:
            self._memory.forget()
            with suppress(StorageError):
                self._api.ask("DELETE", session, actions=PUSH, again=False)
            raise
        answer = self._api.ask(
            "PUT",
            _with_digest(session, self._digest),
            {**_BYTES, "Content-Length": str(len(data))},
            data,
            actions=PUSH,
            patience=self._source.size / _HASHED_PER_SECOND,
            again=False,
        )
        if answer.status != 201:
            raise _Lost(self._api.refused(answer))

    def _remembered(self) -> str | None:
        """The session that was written down, as far as the registry still knows it; ``_at`` is how far it came."""
        session = self._memory.session()
        if session is None:
            return None
        try:
            answer = self._api.ask("GET", session, actions=PUSH)
        except StorageError:
            return None
        found = _RANGE.fullmatch(answer.headers.get("range", "0-0"))
        if answer.status != 204 or found is None or int(found[1]) >= self._source.size:
            return None
        self._rewind(int(found[1]) + 1 if int(found[1]) else 0)  # 0-0 is also said of a session without a byte
        return self._api.located(answer) if "location" in answer.headers else session

    def _rewind(self, at: int) -> None:
        """Bring the hash to the first *at* bytes."""
        if at < self._at:
            self._at, self._hasher = 0, hashlib.new(self._digest.algorithm)
        for _ in self._blocks(self._at, at):
            pass
        if at > self._at:
            self._at, self._hasher = at, self._ahead

    def _body(self, start: int, stop: int) -> Callable[[], Iterator[bytes]]:
        return lambda: self._blocks(start, stop)

    def _read(self, offset: int, length: int) -> bytes:
        """Bytes of the source; that it failed is not for the connection to be blamed for."""
        try:
            return self._source.read(offset, length)
        except OSError as error:
            raise StorageError.of(error, f"cannot read blob {self._digest.short} while it is sent") from error

    def _blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range; at their end ``_ahead`` is the hash with them, and ``_hasher`` still without."""
        hasher = self._hasher.copy()
        for offset in range(start, stop, BLOCK):
            data = self._read(offset, min(BLOCK, stop - offset))
            if len(data) < min(BLOCK, stop - offset):
                raise StorageError(f"blob {self._digest.short} ended early while it was sent", code="place-unreachable")
            hasher.update(data)
            yield data
            self._tell(offset + len(data))
        self._ahead = hasher
        if start == 0 and stop == self._source.size:
            self._compare(hasher)

    def _check(self, size: int) -> None:
        if size != self._source.size:
            raise IntegrityError(f"blob {self._digest.short} has {size} bytes", digest=str(self._digest))
        self._compare(self._hasher)

    def _compare(self, hasher: hashlib._Hash) -> None:
        if hasher.hexdigest() != self._digest.hex:
            found = Digest(self._digest.algorithm, hasher.hexdigest())
            raise IntegrityError(
                f"blob does not match its digest while copying: expected {self._digest.short} "
                f"({self._source.size} bytes), found {found.short}",
                digest=str(self._digest),
            )

    def _there(self) -> bool:
        """Whether the blob is in the repository after all: the answer that said so was lost."""
        with suppress(StorageError):
            found = self._api.ask("HEAD", self._api.url(f"blobs/{self._digest}"))
            return found.status == 200 and found.headers.get("content-length") == str(self._source.size)
        return False

    def _tell(self, at: int) -> None:
        if at > self._told:
            self._progress.advance(at - self._told)
            self._told = at


class _Memory:
    """Where the session of an upload is written down for a later process."""

    def __init__(self, api: Api, digest: Digest) -> None:
        name = hashlib.sha256(f"{api.base}{api.address.served_as}/{digest}".encode()).hexdigest()
        self._file = None if api.remembering is None else api.remembering / f"{name[:40]}.json"

    def session(self) -> str | None:
        """The URL that was kept."""
        if self._file is None:
            return None
        try:
            found = json.loads(self._file.read_text("utf-8"))["session"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def keep(self, session: str) -> None:
        """Write it down, for this user alone: whoever knows the URL may go on with the upload."""
        if self._file is not None:
            with suppress(OSError):  # a copy out of a home that may only be read
                self._file.parent.mkdir(parents=True, exist_ok=True)
                scratch = self._file.with_suffix(f".{os.getpid()}")
                descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w") as handle:
                    handle.write(json.dumps({"session": session}))
                scratch.replace(self._file)

    def forget(self) -> None:
        """The upload is over."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


def _with_digest(session: str, digest: Digest) -> str:
    return f"{session}{'&' if '?' in session else '?'}{urlencode({'digest': str(digest)})}"


def _passing(error: Exception) -> bool:
    """Whether another attempt may go better."""
    return isinstance(error, _Lost) or (isinstance(error, StorageError) and error.code in _PASSING)


def _told(error: Exception) -> Exception:
    return error.error if isinstance(error, _Lost) else error
