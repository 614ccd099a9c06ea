"""A proxy in front of a real server that does what networks and busy servers do.

    with FaultProxy("127.0.0.1", 7480) as proxy:
        proxy.faults = lambda request: Cut(1000) if request.number % 3 == 0 else None

One request per connection: the server sees every request as it was sent, and signatures stay valid.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_HEAD = 64 << 10
_CHUNK = 64 << 10
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>reduce your rate</Message></Error>"


@dataclass(frozen=True)
class Request:
    number: int
    method: str
    target: str


@dataclass(frozen=True)
class Busy:
    """503 SlowDown instead of an answer."""


@dataclass(frozen=True)
class Away:
    """The connection breaks before anything is done."""


@dataclass(frozen=True)
class Cut:
    """The connection breaks after so many bytes of the answer's body."""

    after: int


@dataclass(frozen=True)
class CutSending:
    """The connection breaks after so many bytes of the request's body."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Nothing more comes after so many bytes of the answer's body, and the connection stays."""

    after: int


@dataclass(frozen=True)
class Slow:
    """So many bytes per second, at most."""

    rate: int


@dataclass(frozen=True)
class Truncate:
    """The answer is shorter by so many bytes, and its head says so."""

    by: int


@dataclass(frozen=True)
class Overstate:
    """The head promises so many bytes more than come."""

    by: int


@dataclass(frozen=True)
class Lost:
    """The server does what it was asked for, and its answer gets lost."""


Fault = Busy | Away | Cut | CutSending | Stall | Slow | Truncate | Overstate | Lost


class FaultProxy:
    """Listens on loopback; ``port`` says where."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self.faults: Callable[[Request], Fault | None] = lambda request: None
        self.seen: list[Request] = []
        self.port = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = started.result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks) if tasks else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        request = Request(len(self.seen), method, target)
        self.seen.append(request)
        fault = self.faults(request)
        body = _length(head)
        if isinstance(fault, Away):
            return None
        if isinstance(fault, Busy):
            while body > 0:
                body -= len(await reader.read(min(body, _CHUNK)))
            await _send(
                writer, b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_BUSY)
            )
            await _send(writer, _BUSY)
            return await _end(writer)
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        try:
            up_writer.write(head[:-2] + b"Connection: close\r\n\r\n")
            most = fault.after if isinstance(fault, CutSending) else body
            await _copy(reader, up_writer, min(body, most), fault)
            if most < body:
                return None
            answer = await up_reader.readuntil(b"\r\n\r\n")
            if isinstance(fault, Lost):
                await up_reader.read()
                return None
            length = 0 if method == "HEAD" else _length(answer)
            chunked = b"transfer-encoding: chunked" in answer.lower()
            await _send(writer, _changed(answer, length, fault))
            if isinstance(fault, (Cut, Stall)):
                await _copy(up_reader, writer, min(length, fault.after), fault)
                if isinstance(fault, Stall):
                    await asyncio.sleep(3600)
                return None
            if chunked:  # lists and the like: as they come, up to the end
                await _send(writer, await up_reader.read())
            await _copy(up_reader, writer, max(0, length - (fault.by if isinstance(fault, Truncate) else 0)), fault)
            return await _end(writer)
        finally:
            up_writer.transport.abort()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _changed(head: bytes, length: int, fault: Fault | None) -> bytes:
    stated = length
    if isinstance(fault, Truncate):
        stated = max(0, length - fault.by)
    if isinstance(fault, Overstate):
        stated = length + fault.by
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    if stated != length:
        lines = [line for line in lines if not line.lower().startswith(b"content-length:")]
        lines.append(b"Content-Length: %d" % stated)
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int, fault: Fault | None) -> None:
    while count > 0:
        data = await reader.read(min(count, _CHUNK))
        if not data:
            raise EOFError
        count -= len(data)
        await _send(writer, data)
        if isinstance(fault, Slow):
            await asyncio.sleep(len(data) / fault.rate)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await asyncio.sleep(0.05)  # an abort at once would take what was sent with it
