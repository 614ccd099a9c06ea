"""A real OCI registry on loopback: Debian's docker-registry."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path


def serve(folder: Path, more: str = "") -> Iterator[str]:
    """Run a registry; its ``host:port``.

    Args:
        folder: where it keeps things.
        more: lines of its configuration.
    """
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}', secret: for-tests}}\n{more}"
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=5)
                break
            except urllib.error.HTTPError:
                break  # it asks for a password
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, "docker-registry did not start"
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=10)
