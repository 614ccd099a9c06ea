"""Objects in a bucket: ``assay.ports.objects`` over any store of ``obstore``.

Concept: the client library signs, retries refused and broken requests with jitter, and splits uploads. What it does
not do is done here: a body that breaks off is continued where it stopped, an answer that got lost is looked up, and
what fails is told in our words.

Not here: blobs (``store``), addresses and keys (``opening``).
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from threading import Lock
from typing import Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from assay.blobs.bucket.failing import Failure
from assay.blobs.bucket.options import DEFAULT, Options
from assay.errors import AssayError, NotFound, StorageError
from assay.ports.objects import Found

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_CHUNK = 64 << 10
"""Bytes of a body that are put into place at once: more would first be put together elsewhere."""
_CALM = 30.0
"""Seconds without trouble after which requests go side by side again."""
_LONGEST_REST = 8.0
_SILENT = 2.0
"""Seconds after which people hear what they are waiting for, and that it goes on."""
_BRIEF = 1 << 20
"""Bytes that are sent well within ``Options.stall``."""
_RAISED = (BaseError, OSError)
"""What the library raises: its own errors, and ``FileNotFoundError`` and its kin."""
_user: list[int] = []
"""The process in which the client library was first used; its threads are there and in no forked child."""


def check_process() -> None:
    """Whether buckets can be used in this process; else the client library would wait forever.

    Raises:
        StorageError: its parent used one before it was forked (code ``bucket-forked``).
    """
    if not _user:
        _user.append(os.getpid())
    if _user[0] != os.getpid():
        raise StorageError(
            "a bucket cannot be used in a process that was forked after its parent used one; nothing was asked of it",
            code="bucket-forked",
            hint="start processes by spawn or forkserver (a DataLoader: multiprocessing_context='spawn'), "
            "or fork before a bucket is first used",
        )


class Workers(ThreadPoolExecutor):
    """Threads that use a bucket; in a forked child, where there are none, that is said."""

    def submit(self, call: Callable[..., _T], /, *arguments: Any, **named: Any) -> Future[_T]:
        """Run a call in one of them.

        Raises:
            StorageError: this is a forked child (code ``bucket-forked``).
        """
        check_process()
        return super().submit(call, *arguments, **named)


class BucketObjects:
    """Objects below one prefix.

    Args:
        reading: a store of ``obstore``, which adds the prefix.
        writing: the same with timeouts for sending; *reading* when None.
        place: what to call it.
        options: how patient and how parallel to be.
        ordered: whether the store lists by key, as buckets do and folders do not.
    """

    def __init__(
        self,
        reading: Any,
        *,
        writing: Any = None,
        place: str = "memory://",
        options: Options = DEFAULT,
        ordered: bool = True,
    ) -> None:
        self._ordered = ordered
        self._troubled = self._told = -_CALM
        self._alone = Lock()
        self._reading = reading
        self._writing = self._changing = reading if writing is None else writing
        self._checks: tuple[Callable[[], None], ...] = ()
        self._place = place
        self.options = options

    @property
    def place(self) -> str:
        """What to call it, for people."""
        return self._place

    def guarded(self, check: Callable[[], None]) -> BucketObjects:
        """The same objects, for who may change them only as long as *check* does not raise.

        It is called right before each try of a request. A try that gets no answer is given up after ``Options.stall``,
        unless it sends much: so none is under way for long after what it relied on ended.
        """
        found = copy(self)
        found._checks = (*self._checks, check)  # noqa: SLF001 - its own
        found._changing = self._reading  # noqa: SLF001 - its own
        return found

    def head(self, key: str) -> Found | None:
        """What is known of an object without its bytes; None when it is not there."""
        try:
            return self._try(f"look for {key}", lambda: _found(obstore.head(self._reading, key)))
        except NotFound:
            return None

    def get(self, key: str) -> bytes:
        """All bytes of a small object."""
        return self._try(f"read {key}", lambda: bytes(obstore.get(self._reading, key).bytes()))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length) of an object that has them."""
        if length == 0:
            return b""
        buffer = bytearray(length)
        self.read_into(key, offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, key: str, offset: int, into: memoryview) -> None:
        """Fill *into* from the bytes at *offset*, by one request that is continued where it breaks off.

        Raises:
            NotFound: it is not there (code ``object-missing``).
            StorageError: the place failed, or the object ends before.
        """
        check_process()
        done = failed = 0
        since = time.monotonic()
        while done < len(into):
            before = done
            try:
                with self._pace():
                    answer = obstore.get(self._reading, key, options={"range": (offset + done, offset + len(into))})
                    for chunk in answer.stream(min_chunk_size=_CHUNK):
                        count = min(len(chunk), len(into) - done)
                        into[done : done + count] = memoryview(chunk)[:count]
                        done += count
                failed, since = (0, time.monotonic()) if done > before else (failed + 1, since)
                if failed >= self.options.tries:
                    raise self._short(key, offset + done)
            except _RAISED as error:
                # A body that makes headway may break off as often as it likes.
                failed, since = (1, time.monotonic()) if done > before else (failed + 1, since)
                self._again(error, f"read {key}", failed, since)

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, whatever is there."""
        store = self._changing if len(data) <= _BRIEF else self._writing
        self._try(f"write {key}", lambda: obstore.put(store, key, data, use_multipart=False))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; whether what is there now is *data*."""

        def write() -> bool:
            try:
                obstore.put(self._writing, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        if self._try(f"create {key}", write):
            return True
        with suppress(NotFound):  # removed meanwhile
            # The answer to a write that succeeded may have been lost, and the library has then written again.
            return self.get(key) == data
        return False

    def put_parts(self, key: str, parts: Callable[[], Iterable[bytes]], size: int) -> None:
        """Write a large object from its bytes in order, several parts at a time; visible only when all are there.

        Args:
            key: which.
            parts: gives the bytes, in pieces of any size, from their beginning each time it is called.
            size: how many bytes there will be: it decides the size of parts, of which there may be 10,000.

        Raises:
            StorageError: the place failed; nothing is visible.
            AssayError: *parts* raised it; nothing is visible.
        """
        piece = max(self.options.piece, -(-size // 9_000))
        parallel = max(1, min(self.options.parallel, (16 * self.options.piece) // piece))

        def write() -> None:
            atonce = 1 if self._is_troubled() else parallel
            obstore.put(self._writing, key, iter(parts()), chunk_size=piece, max_concurrency=atonce)

        self._try(f"write {key}", write)

    def copy(self, key: str, to: str) -> None:
        """Copy an object within the bucket; servers do it for up to 5 GiB.

        Raises:
            NotFound: it is not there (code ``object-missing``).
            StorageError: the place failed.
        """
        self._try(f"copy {key}", lambda: obstore.copy(self._writing, key, to))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Found]:
        """Objects whose keys begin with *prefix*, in the order of their keys, from behind *after*."""
        check_process()
        failed, since = 0, time.monotonic()
        while True:
            try:
                for one in self._pages(prefix, after):
                    yield one
                    after, failed, since = one.key, 0, time.monotonic()
            except _RAISED as error:
                failed += 1
                if isinstance(error, FileNotFoundError) and not Failure.of(error).code:
                    return  # a local folder that was never written to
                self._again(error, f"list {prefix}", failed, since)
            else:
                return

    def check(self) -> None:
        """Make sure that the bucket answers, and may be read.

        Raises:
            StorageError: it does not; what is said is about the bucket as a whole.
        """
        self._try("look", lambda: next(self._pages("assay.json", ""), None))

    def delete(self, *keys: str) -> None:
        """Remove objects; those that are not there are no error."""
        for key in keys:
            with suppress(NotFound):
                self._try(f"remove {key}", lambda key=key: obstore.delete(self._changing, key))  # type: ignore[misc]

    def _pages(self, prefix: str, after: str) -> Iterator[Found]:
        pages = obstore.list(self._reading, prefix or None, offset=after or None)
        found = (_found(one) for page in pages for one in page)
        return found if self._ordered else iter(sorted(found, key=lambda one: one.key))

    def _is_troubled(self) -> bool:
        return time.monotonic() - self._troubled < _CALM

    @contextmanager
    def _pace(self) -> Iterator[None]:
        """Requests side by side; one after the other for a while after something went wrong."""
        with self._alone if self._is_troubled() else nullcontext():
            yield

    def _try(self, doing: str, call: Callable[[], _T]) -> _T:
        check_process()
        failed, since = 0, time.monotonic()
        while True:
            for check in self._checks:
                check()
            try:
                return call()
            except AssayError:
                raise
            except _RAISED as error:
                failed += 1
                self._again(error, doing, failed, since)

    def _again(self, error: Exception, doing: str, failed: int, since: float) -> None:
        """Wait, for another try; or raise what it means.

        Raises:
            NotFound: the object is not there (code ``object-missing``).
            StorageError: trying again is of no use, or was tried often enough.
        """
        failure = Failure.of(error)
        if isinstance(error, FileNotFoundError) and failure.code != "NoSuchBucket":
            raise NotFound(f"no such object in {self._place}: {doing}", code="object-missing") from None
        enough = failed >= self.options.tries or time.monotonic() - since > self.options.patience
        if enough or not (failure.passing or failure.conflicting):
            raise failure.error(f"cannot {doing} in {self._place}", self._place) from None
        self._troubled = time.monotonic()
        if self._troubled - since > _SILENT and self._troubled - self._told > _CALM:
            self._told = self._troubled
            _log.warning("%s: %s; trying again, for a while", self._place, failure.reason(self._place))
        # Jitter: those who were refused together must not come back together.
        rest = min(self.options.rest * 2 ** (failed - 1), _LONGEST_REST)
        time.sleep(rest * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    def _short(self, key: str, end: int) -> StorageError:
        return StorageError(
            f"cannot read {key} in {self._place}: it ends at byte {end}, before what was asked for",
            code="bucket-failed",
            place=self._place,
        )


def _found(meta: Any) -> Found:
    return Found(meta["path"], meta["size"], meta["last_modified"], meta["e_tag"] or "")
