"""Digests of tensors, kept from one comparison to the next: what is known to be equal is not read again.

One small JSON file per blob: ``{"schema": 1, "tensors": {PLACE: DIGEST}}``. A file that is damaged or missing is as
good as an empty one, and a folder that cannot be written remembers nothing; two processes that write at once may lose
one's additions, never mix them up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import defaultdict
from math import prod
from pathlib import Path

import numpy as np

from assay.compare.contents import Content
from assay.compare.numbers import BLOCK
from assay.errors import AssayError

SCHEMA = 1

MAX_FILE = 64 << 20
"""Bytes of one file of digests that are read."""


class Remembered:
    """What is known of the tensors of pushed files.

    Args:
        folder: where it is kept; None remembers nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, str]] = {}
        self._fresh: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def digest(self, content: Content) -> str | None:
        """The digest of a tensor's elements, if it is known."""
        if self._folder is None or content.key is None:
            return None
        blob, place = content.key
        if blob not in self._known:
            self._known[blob] = _read(self._folder / _file_name(blob))
        return self._known[blob].get(place)

    def wants(self, *contents: Content) -> bool:
        """Whether there is somewhere to keep the digest of one of them, and it is not known yet."""
        return self._folder is not None and any(c.key is not None and self.digest(c) is None for c in contents)

    def keep(self, content: Content, digest: str) -> None:
        """Remember a digest."""
        if content.key is not None:
            blob, place = content.key
            self._fresh[blob][place] = digest

    def save(self) -> None:
        """Write what is new; a folder that cannot be written is left alone."""
        if self._folder is None or not self._fresh:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            for blob, tensors in self._fresh.items():
                file = self._folder / _file_name(blob)
                _write(file, {**_read(file), **tensors})
        self._fresh.clear()


def tensor_digest(content: Content) -> str | None:
    """SHA-256 over a tensor's type, its number of elements, and its elements in C order and little-endian.

    Numbers in blocks are hashed as they are stored. None when it cannot be read.
    """
    try:
        elements = content.elements() if content.blocks is None else content.stored()
        count = prod(elements.shape)
        hasher = hashlib.sha256(f"{content.spec.dtype} {content.spec.size}\n".encode())
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            block = np.ascontiguousarray(elements.stretch(start, stop))
            if block.dtype.byteorder == ">":
                block = block.astype(block.dtype.newbyteorder("<"))
            hasher.update(block.view(np.uint8).data)
            elements.release(start, stop)
    except (AssayError, ValueError, OSError):
        return None
    return f"sha256:{hasher.hexdigest()}"


def _file_name(blob: str) -> str:
    """Blobs are named by digests, several of them for what lies in several files."""
    return f"{hashlib.sha256(blob.encode()).hexdigest()}.json"


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as handle:
            data = json.loads(handle.read(MAX_FILE + 1))
        tensors = data["tensors"] if data["schema"] == SCHEMA else {}
        return {place: digest for place, digest in tensors.items() if _is_digest(digest)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 71 and text.startswith("sha256:")


def _write(file: Path, tensors: dict[str, str]) -> None:
    """Readers see the old file or the new one, nothing between."""
    body = json.dumps({"schema": SCHEMA, "tensors": tensors}, separators=(",", ":"), sort_keys=True)
    if len(body) > MAX_FILE:
        return
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(body)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
