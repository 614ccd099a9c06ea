"""Requests to one repository of an OCI registry (distribution-spec 1.1), and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from assay.errors import StorageError
from assay.remote.http import PASSING, Answer, Body, Http, Opened, joined, same_host
from assay.remote.oci_address import Address, is_loopback
from assay.remote.oci_auth import Authority, unauthorized
from assay.remote.oci_credentials import Credentials, find_credentials

PULL, PUSH = "pull", "pull,push"
_CHALLENGES = 3
"""Requests in all while the registry asks who it is: without an answer, with one, with one that did not run out."""
_SAID = 64 << 10


class Passing(OSError):
    """An answer that says to try again.

    Args:
        error: what it means when it stays so.
        after: the header ``Retry-After``.
    """

    def __init__(self, error: StorageError, after: str | None) -> None:
        super().__init__(error.message)
        self.error, self.after = error, after


class Api:
    """One repository.

    Args:
        address: which.
        http: connections.
        plain: whether to speak without encryption.
        remembering: local folder for uploads under way; None: they are not gone on with by a later process.
    """

    def __init__(self, address: Address, http: Http, *, plain: bool = False, remembering: Path | None = None) -> None:
        self.address, self.http, self.remembering = address, http, remembering
        scheme = "http" if plain or is_loopback(address.served_at) else "https"
        self.base = f"{scheme}://{address.served_at}/v2/"
        self.authority = Authority(http, address.host, self._credentials)

    def _credentials(self) -> Credentials | None:
        return find_credentials(self.address.host, hub=self.address.is_hub)

    def url(self, path: str, *, repository: str | None = None) -> str:
        """The URL of something in the repository, or in another one of the registry."""
        return f"{self.base}{repository or self.address.served_as}/{path}"

    def scope(self, actions: str, *, repository: str | None = None) -> str:
        """The right to do something, as token services call it."""
        return f"repository:{repository or self.address.served_as}:{actions}"

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        *,
        actions: str = PULL,
        others: Sequence[str] = (),
        patience: float = 0.0,
        again: bool = True,
    ) -> Answer:
        """Ask, and say who is asking when the registry itself wants to know.

        Args:
            method: of the request.
            url: whole.
            headers: to send.
            body: as ``Http.request`` takes it.
            actions: what right in the repository it takes.
            others: scopes beyond that.
            patience: seconds more than usual until the answer begins.
            again: whether what fails in passing is tried again.

        Raises:
            StorageError: no answer, or one that says no to who is asking (codes ``registry-unauthorized``,
                ``registry-denied``), or that it is too busy or broken; every other answer is returned.
        """
        scopes = (self.scope(actions), *others)
        sent = self.authority.header(scopes) if self._is_own(url) else None
        for _ in range(_CHALLENGES):
            shown = {"Authorization": sent} if sent is not None else {}
            answer = self.http.request(method, url, {**(headers or {}), **shown}, body, patience=patience, again=again)
            if answer.status != 401 or not self._is_own(answer.url):
                break
            sent = self.authority.answer(answer.headers.get("www-authenticate", ""), scopes, refused=sent)
            if sent is None:
                break
        self.check_allowed(answer.status, answer.data)
        if answer.status in PASSING:
            raise self.refused(answer)
        return answer

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str], *, expected: frozenset[int]) -> Iterator[Opened]:
        """One attempt to read something large, whose answer is read while it comes.

        Raises:
            StorageError: as ``ask``, or another status than *expected*.
            Passing: the registry asks for patience.
            HTTPError, OSError: of ``urllib3``.
        """
        scopes = (self.scope(PULL),)
        sent = self.authority.header(scopes)
        for turn in range(_CHALLENGES):
            shown = {"Authorization": sent} if sent is not None else {}
            with self.http.open("GET", url, {**headers, **shown}) as opened:
                response = opened.response
                if response.status == 401 and turn + 1 < _CHALLENGES and self._is_own(opened.url):
                    challenge = response.headers.get("www-authenticate", "")
                    sent = self.authority.answer(challenge, scopes, refused=sent)
                    if sent is not None:
                        continue
                if response.status in expected:
                    yield opened
                    return
                data = response.read(_SAID)
                self.check_allowed(response.status, data)
                error = self.refused(Answer(response.status, {}, data, url))
                if response.status in PASSING:
                    raise Passing(error, response.headers.get("retry-after"))
                raise error

    def _is_own(self, url: str) -> bool:
        """Whether a URL is of the registry itself: an upload, a next page or a redirect may lead to somebody else."""
        return same_host(url, self.base)

    def check_allowed(self, status: int, data: bytes) -> None:
        """Make sure that an answer is none that says no to who is asking.

        Raises:
            StorageError: it is (codes ``registry-unauthorized``, ``registry-denied``).
        """
        if status == 401:
            raise unauthorized(self.address.host, known=self.authority.knows)
        if status == 403:
            raise StorageError(
                f"{self.address.place}: you may not do that{_said(data)}",
                code="registry-denied",
                hint="its owner gives the right to read (pull) or write (push)",
            )

    def refused(self, answer: Answer) -> StorageError:
        """What an answer that does not help means for the user."""
        place, said = self.address.place, _said(answer.data)
        if answer.status == 429:
            return StorageError(
                f"{place} is asked too often{said}",
                code="registry-busy",
                hint="wait a while, then run it again: it goes on from what is there",
            )
        if answer.status == 413:
            return StorageError(
                f"{place} does not take anything that large{said}",
                code="registry-too-large",
                hint="its owner can raise the limit, often one of a proxy in front of it",
            )
        if answer.status in {404, 405} and answer.url.endswith("/blobs/uploads/"):
            return StorageError(f"{place} takes no uploads{said}", code="registry-refused")
        if answer.status in PASSING:
            hint = "run it again: it goes on from what is there"
            return StorageError(f"{place} answers {answer.status}{said}", code="place-unreachable", hint=hint)
        return StorageError(f"{place} answers {answer.status}{said}", code="registry-refused")

    def located(self, answer: Answer) -> str:
        """Where an answer sends on to.

        Raises:
            StorageError: nowhere.
        """
        found = answer.headers.get("location")
        if not found:
            raise StorageError(f"{self.address.place} does not say where to upload to", code="place-odd")
        return joined(answer.url, found)


def _said(data: bytes) -> str:
    """What the registry says about it, to go into a message."""
    try:
        first = json.loads(data)["errors"][0]
        text = f"{first['code']}: {first['message']}" if first.get("message") else str(first["code"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({' '.join(text.split())[:200]})"
