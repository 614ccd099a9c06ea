"""A network between us and a server, which cuts, stalls and answers 503, by a seed: each connection has its own fate."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from typing import Self

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Breaking:
    """Forwards to a server on loopback; ``address`` is where it listens, ``broken`` how many connections it broke.

    Args:
        server: ``host:port``.
        seed: of what happens.
        share: of the connections that break.
    """

    def __init__(self, server: str, *, seed: int, share: float = 0.25) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._random, self._share = random.Random(seed), share
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            fate = self._random.choice(["cut", "stall", "busy"]) if self._random.random() < self._share else ""
            limit = int(10 ** self._random.uniform(3, 7.5))
            self.broken += bool(fate)
            threading.Thread(target=self._carry, args=(near, fate, limit), daemon=True).start()

    def _carry(self, near: socket.socket, fate: str, limit: int) -> None:
        if fate == "busy":
            near.recv(1 << 16)
            near.sendall(_BUSY)
            near.close()
            return
        far = socket.create_connection(self._server)
        left = [limit]

        def pump(one: socket.socket, other: socket.socket) -> None:
            try:
                while data := one.recv(1 << 16):
                    left[0] -= len(data)
                    if fate and left[0] < 0:
                        if fate == "stall":
                            time.sleep(3)
                        break
                    other.sendall(data)
            except OSError:
                pass
            for end in (one, other):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        threads = [threading.Thread(target=pump, args=ends, daemon=True) for ends in ((near, far), (far, near))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        near.close()
        far.close()
