"""A blob in an OCI registry, read while it comes: by ranges, or by one plain request.

What breaks off is asked for again from there; how long that goes on is bounded. What a registry gives is looked at
only as far as it was asked for: whether the bytes are the right ones shows in their digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from urllib3.exceptions import HTTPError

from assay.errors import StorageError
from assay.remote.http import Opened
from assay.remote.oci_api import Api, Passing
from assay.spec.digest import Digest

_BLOCK = 256 << 10


class _BrokenOffError(Exception):
    """An answer broke off: told from what fails where its bytes go, a full disk for one."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _blocks(opened: Opened) -> Iterator[bytes]:
    try:
        yield from opened.response.stream(_BLOCK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _BrokenOffError(error) from error


class RegistrySource:
    """A blob of a repository, read by ranges or by one plain request.

    Args:
        api: the repository.
        digest: which.
        size: bytes of it.
    """

    def __init__(self, api: Api, digest: Digest, size: int) -> None:
        self._api, self.size = api, size
        self._url = api.url(f"blobs/{digest}")
        self._broken = 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes in [offset, offset + length), cut off at the end."""
        into = bytearray(max(0, min(length, self.size - offset)))
        return bytes(into[: self.read_into(offset, memoryview(into))])

    def read_into(self, offset: int, into: memoryview) -> int:
        """Fill *into* from the bytes at *offset*; what was cut off is asked for again.

        Raises:
            StorageError: the registry gives no ranges (code ``ranges-refused``), or did not answer for good.
        """
        wanted, done, failures = max(0, min(len(into), self.size - offset)), 0, 0
        while done < wanted:
            before = done
            try:
                done += self._range(offset + done, into[done:wanted])
            except (HTTPError, OSError) as error:
                done = self._filled(error, done)
                failures = 1 if done > before else failures + 1
                if failures >= self._api.http.tries:
                    raise self._failed(error) from error
                self._api.http.wait(failures, error.after if isinstance(error, Passing) else None)
        return wanted

    @contextmanager
    def stream(self, offset: int) -> Iterator[Iterator[bytes]]:
        """The bytes from *offset* to the end, by one request; what fails is only told after a wait.

        Raises:
            StorageError: it failed.
        """
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with ExitStack() as opening:
            try:
                opened = opening.enter_context(
                    self._api.stream(
                        self._url, {"Accept-Encoding": "identity", **asked}, expected=frozenset({200, 206})
                    )
                )
                self._check_range(opened, offset)
            except (HTTPError, OSError) as error:
                raise self._waited(error) from error
            skip = 0 if opened.response.status == 206 else offset
            try:
                yield self._after(skip, _blocks(opened))
            except _BrokenOffError as broken:
                raise self._waited(broken.reason) from broken.reason

    def _waited(self, error: Exception) -> StorageError:
        self._broken += 1
        self._api.http.wait(self._broken, error.after if isinstance(error, Passing) else None)
        return self._failed(error)

    def _failed(self, error: Exception) -> StorageError:
        return error.error if isinstance(error, Passing) else self._api.http.failed(self._url, error)

    @staticmethod
    def _after(skip: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if skip >= len(block):
                skip -= len(block)
            else:
                yield block[skip:]
                skip = 0

    def _range(self, offset: int, into: memoryview) -> int:
        headers = {"Range": f"bytes={offset}-{offset + len(into) - 1}", "Accept-Encoding": "identity"}
        with self._api.stream(self._url, headers, expected=frozenset({200, 206})) as opened:
            if opened.response.status == 200 and len(into) < self.size:
                raise StorageError(f"{self._api.address.place} gives no ranges of blobs", code="ranges-refused")
            self._check_range(opened, offset)
            done = 0
            try:
                for block in opened.response.stream(_BLOCK, decode_content=False):
                    count = min(len(block), len(into) - done)
                    into[done : done + count] = block[:count]
                    done += count
                    if done == len(into):  # what comes beyond that was not asked for
                        return done
            except (HTTPError, OSError) as error:
                raise _Cut(done, str(error)) from error
        raise _Cut(done, "it answers with fewer bytes than were asked for")

    def _check_range(self, opened: Opened, offset: int) -> None:
        """Make sure that a part of a blob is the one that was asked for, as far as the answer says."""
        stated = opened.response.headers.get("content-range")
        if opened.response.status == 206 and stated is not None and not stated.startswith(f"bytes {offset}-"):
            raise StorageError(
                f"{self._api.address.place} gives other ranges than it is asked for", code="ranges-refused"
            )

    @staticmethod
    def _filled(error: Exception, done: int) -> int:
        return done + error.done if isinstance(error, _Cut) else done


class _Cut(OSError):
    """A range that broke off."""

    def __init__(self, done: int, why: str) -> None:
        super().__init__(why)
        self.done = done
