"""HTTP requests that do not hang and do not give up at once.

An attempt ends when no byte came or went for ``stall`` seconds. What may pass (a cut connection, a peer that stalled,
429, 502, 503, 504) is tried again, a bounded number of times, after a random wait that doubles, or after what
``Retry-After`` asks for. ``urllib3`` is an optional library: whoever wires this imports it late.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError, SSLError

from assay.errors import StorageError
from assay.remote.oci_address import is_loopback

STALL = 30.0
"""Seconds without a byte after which an attempt is over."""
TRIES = 5
"""Attempts in all."""
LONGEST_WAIT = 120.0
"""Seconds that ``Retry-After`` may ask for."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses after which the same request may succeed."""
LARGEST_ANSWER = 32 << 20
"""Bytes of an answer that is read into memory."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_FIRST_WAIT, _LAST_WAIT = 0.5, 20.0

Body = bytes | Callable[[], Iterable[bytes]] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: of the response.
        headers: by lower-case name.
        data: the body.
        url: that answered, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    data: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that is still coming.

    Args:
        response: of ``urllib3``.
        url: that answered, after redirects.
    """

    response: urllib3.BaseHTTPResponse
    url: str


class Http:
    """Connections to some hosts; safe for several threads.

    Args:
        stall: seconds without a byte after which an attempt is over.
        tries: attempts in all.
        plain: hosts that may be spoken to without encryption, besides this machine.
        sleep: waits.
    """

    def __init__(
        self,
        *,
        stall: float = STALL,
        tries: int = TRIES,
        plain: frozenset[str] = frozenset(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.stall, self.tries = stall, tries
        self._plain, self._sleep = plain, sleep
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        patience: float = 0.0,
        again: bool = True,
    ) -> Answer:
        """Ask, and read the whole answer.

        Args:
            method: of the request.
            url: whole.
            headers: to send; ``Authorization`` stays with the host.
            body: bytes, or what makes an iterator over them for each attempt (then ``headers`` say how many).
            patience: seconds more than usual until the answer begins.
            again: whether what fails in passing is tried again.

        Raises:
            StorageError: no attempt got an answer (codes ``place-unreachable``, ``place-stalled``).
        """
        attempt = 1
        while True:
            try:
                with self.open(method, url, headers, body, patience=patience) as opened:
                    data = opened.response.read(LARGEST_ANSWER + 1)
                    if len(data) > LARGEST_ANSWER:
                        raise StorageError(f"{_host(url)} answers more than {LARGEST_ANSWER:,} bytes", code="place-odd")
                    seen = {name.lower(): value for name, value in opened.response.headers.items()}
                    answer = Answer(opened.response.status, seen, data, opened.url)
                if answer.status not in PASSING or not again or attempt >= self.tries:
                    return answer
                self.wait(attempt, answer.headers.get("retry-after"))
            except (HTTPError, OSError) as error:
                if not again or attempt >= self.tries or isinstance(error, SSLError):
                    raise self.failed(url, error) from error
                self.wait(attempt)
            attempt += 1

    @contextmanager
    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, *, patience: float = 0.0
    ) -> Iterator[Opened]:
        """One attempt, whose answer is read while it comes; redirects of ``GET`` and ``HEAD`` are followed.

        Raises:
            HTTPError, OSError: of ``urllib3``; ``failed`` says what they mean.
        """
        asked, sent = url, dict(headers)
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(asked)
            response = self._pool(asked).request(
                method,
                asked,
                headers=sent,
                body=body() if callable(body) else body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self.stall, read=self.stall + patience),
            )
            finished = False
            try:
                target = response.headers.get("location")
                if response.status in _REDIRECTS and target and method in {"GET", "HEAD"}:
                    onward = joined(asked, target)
                    if not same_host(onward, asked):
                        sent.pop("Authorization", None)
                    asked = onward
                    continue
                yield Opened(response, asked)
                finished = True
                return
            finally:
                if finished and response.length_remaining == 0:  # one of unknown length gives itself back at its end
                    response.release_conn()
                else:
                    response.close()
        raise StorageError(f"{_host(url)} sends from one address to the next without end", code="place-odd")

    def wait(self, attempt: int, asked: str | None = None) -> None:
        """Wait before the attempt after *attempt*, as long as the peer asks for, if it does."""
        longest = min(_LAST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
        seconds = random.uniform(0.5, 1.0) * longest  # noqa: S311 - spreads the load, hides nothing
        stated = None if asked is None else number(asked)
        if stated is not None:
            seconds = min(LONGEST_WAIT, stated) + seconds / 10
        self._sleep(seconds)

    def failed(self, url: str, error: Exception) -> StorageError:
        """What a failed attempt means for the user."""
        host = _host(url)
        if isinstance(error, (ReadTimeoutError, TimeoutError)) or "timed out" in str(error):
            return StorageError(
                f"{host} stalled: no byte for {self.stall:g} s, {self.tries} times",
                code="place-stalled",
                hint="run it again: it goes on from what is there",
            )
        hint = "run it again: it goes on from what is there"
        if isinstance(error, SSLError):
            hint = "a registry without TLS needs --plain-http; one with a certificate of its own SSL_CERT_FILE"
        return StorageError(f"cannot reach {host}: {_reason(error)}", code="place-unreachable", hint=hint)

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" or (
            parts.scheme == "http" and (is_loopback(parts.netloc) or parts.netloc in self._plain)
        ):
            return
        raise StorageError(
            f"{parts.netloc or url!r:.100} would be spoken to without encryption",
            code="place-insecure",
            hint="--plain-http allows it for the registry that is named",
        )

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.netloc) or is_loopback(parts.netloc) else getproxies().get(parts.scheme, "")
        with self._lock:
            if proxy not in self._pools:
                kind = urllib3.ProxyManager(proxy, maxsize=32) if proxy else urllib3.PoolManager(maxsize=32)
                self._pools[proxy] = kind
            return self._pools[proxy]


def number(text: str) -> int | None:
    """A number in a header; None where there is none, or one that nobody means."""
    found = re.fullmatch(r"\s*([0-9]{1,18})\s*", text)
    return int(found[1]) if found else None


def same_host(url: str, other: str) -> bool:
    """Whether two URLs lead to the same host and port in the same way, so that one may see what the other is told."""
    try:
        return _origin(url) == _origin(other)
    except ValueError:  # no port that could be spoken to
        return False


def joined(base: str, target: str) -> str:
    """Where an answer from *base* sends on to.

    Raises:
        StorageError: to what is no address (code ``place-odd``).
    """
    try:
        onward = urljoin(base, target)
        urlsplit(onward).port  # noqa: B018 - raises where it is none
    except ValueError:
        raise StorageError(f"{_host(base)} sends on to what is no address: {target!r:.200}", code="place-odd") from None
    return onward


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _reason(error: Exception) -> str:
    inner = error
    while inner.args and isinstance(inner.args[-1], Exception):
        inner = inner.args[-1]
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner) or type(inner).__name__
    return re.sub(r"^\[errno -?\d+\] ", "", text.rpartition(": ")[2].lower())[:200]
