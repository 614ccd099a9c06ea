"""Who is asking an OCI registry: answers to ``WWW-Authenticate``, and tokens that are kept until they run out.

The registry says what it wants: ``Basic`` credentials, or a ``Bearer`` token from a token service that it names. What
it may not get is nothing of ours to decide: a token with fewer rights than asked for is used, and refused by it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode, urlsplit

from assay.errors import BadFormat, StorageError
from assay.remote.http import Http
from assay.remote.oci_address import is_loopback
from assay.remote.oci_credentials import Credentials

_PARAMETER = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SHORTEST = 60.0
"""Seconds for which a token holds when its service does not say."""
_MARGIN = 10.0
_CLIENT = "assay"


class Authority:
    """Answers the challenges of one registry; safe for several threads.

    Args:
        http: for the token service.
        host: of the registry, as people write it.
        credentials: looks them up, when the registry asks.
    """

    def __init__(self, http: Http, host: str, credentials: Callable[[], Credentials | None]) -> None:
        self._http, self._host, self._look_up = http, host, credentials
        self._found: Credentials | None = None
        self._looked = False
        self._headers: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @property
    def knows(self) -> bool:
        """Whether there are credentials for the registry."""
        return self._credentials() is not None

    def header(self, scopes: Sequence[str]) -> str | None:
        """What to send for these scopes, as far as it is known without being asked."""
        header, until = self._headers.get(_key(scopes), (None, 0.0))
        return header if time.monotonic() < until else None

    def answer(self, challenge: str, scopes: Sequence[str], *, refused: str | None) -> str | None:
        """What to send after a 401; None when there is nothing to say that was not said.

        Args:
            challenge: the header ``WWW-Authenticate``.
            scopes: what is needed.
            refused: what was sent before.

        Raises:
            StorageError: the token service is out of reach, or refuses (code ``registry-unauthorized``).
            BadFormat: challenge or token cannot be read.
        """
        with self._lock:
            known = self.header(scopes)
            if known is not None and known != refused:
                return known  # another thread asked meanwhile
            scheme, _, rest = challenge.strip().partition(" ")
            said = {name.lower(): _plain(quoted, bare) for name, quoted, bare in _PARAMETER.findall(rest)}
            if scheme.lower() == "bearer":
                header, lasting = self._token(said, scopes)
            else:
                found = self._credentials()
                if found is None or scheme.lower() != "basic":
                    return None
                header, lasting = found.basic, float("inf")
            if header == refused:
                return None
            self._headers[_key(scopes)] = header, time.monotonic() + lasting
            return header

    def _credentials(self) -> Credentials | None:
        if not self._looked:
            self._found, self._looked = self._look_up(), True
        return self._found

    def _token(self, said: Mapping[str, str], scopes: Sequence[str]) -> tuple[str, float]:
        realm = said.get("realm", "")
        try:
            parts = urlsplit(realm)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise BadFormat(f"{self._host} names no token service that can be asked: {realm!r:.200}", code="place-odd")
        found = self._credentials()
        if found is not None and parts.scheme == "http" and not is_loopback(parts.netloc):
            raise StorageError(
                f"{self._host} wants the credentials at {parts.netloc} without encryption; they were not sent",
                code="place-insecure",
                hint="its token service needs https",
            )
        wanted = list(dict.fromkeys([*scopes, *said.get("scope", "").split()]))
        service = said.get("service", "")
        if found is not None and found.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": found.identity_token,
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(wanted),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._http.request("POST", realm, headers, urlencode(form).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in wanted]
            query += [("client_id", _CLIENT)] + ([("account", found.username)] if found is not None else [])
            headers = {"Authorization": found.basic} if found is not None else {}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
            answer = self._http.request("GET", url, headers)
        if answer.status in {400, 401, 403}:
            raise unauthorized(self._host, known=found is not None)
        return self._read(answer.status, answer.data)

    def _read(self, status: int, data: bytes) -> tuple[str, float]:
        try:
            body = json.loads(data)
            token = body.get("token") or body.get("access_token")
            lasting = float(body.get("expires_in") or _SHORTEST)
            if status != 200 or not isinstance(token, str) or not (token.isascii() and token.isprintable()):
                raise ValueError(f"status {status}")  # noqa: TRY301 - told with the others below
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise BadFormat(
                f"the token service of {self._host} gives no token ({error!s:.100})", code="place-odd"
            ) from error
        return f"Bearer {token}", max(1.0, lasting - _MARGIN)


def unauthorized(host: str, *, known: bool) -> StorageError:
    """The registry wants to know who is asking, or does not take the answer."""
    if known:
        return StorageError(
            f"{host} does not accept the credentials that are kept for it",
            code="registry-unauthorized",
            hint=f"log in again: docker login {host}, or skopeo login {host}",
        )
    return StorageError(
        f"{host} asks who you are, and no credentials are kept for it",
        code="registry-unauthorized",
        hint=f"docker login {host}, podman login {host} or skopeo login {host} keeps them",
    )


def _plain(quoted: str, bare: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted) if quoted else bare


def _key(scopes: Sequence[str]) -> str:
    return " ".join(sorted(scopes))
