"""A real PostgreSQL server on a socket in a new folder; Debian's package ``postgresql`` has the programs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


def server_user() -> str | None:
    """As whom the server runs: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def running() -> Iterator[str]:
    """Start a server; gives the URL of an empty database, whose user needs no password."""
    found, user = programs(), server_user()
    if found is None:
        raise RuntimeError("these tests need PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="assay-pg-"))
    process = None
    try:
        folder.chmod(0o755)
        data, log = folder / "data", folder / "log"
        data.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(data, user)
            shutil.chown(folder, user)
        with log.open("wb") as output:
            initialise = [found / "initdb", "-D", data, "-U", "assay", "--auth=trust", "-E", "UTF8", "--no-sync"]
            subprocess.run(initialise, user=user, cwd="/", check=True, stdout=output, stderr=output)
            options = {"unix_socket_directories": folder, "listen_addresses": "", "fsync": "off"}
            command = [found / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())]
            process = subprocess.Popen(command, user=user, cwd="/", stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while subprocess.run([found / "pg_isready", "-q", "-h", folder, "-U", "assay"]).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.05)
        yield f"postgresql://assay@/postgres?host={folder}"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # ends whoever is connected, too
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
