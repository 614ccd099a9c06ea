"""The version of the rules: the release, and a digest over everything that finds or judges.

Nobody has to remember to raise a number: a changed parser, table or rule is another rule set, so that stored reports
are known to be old.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import entry_points, version
from importlib.resources import files
from importlib.resources.abc import Traversable

_ROOMS = ("audit", "containers", "formats", "spec", "trees")
_SUFFIXES = (".py", ".json", ".txt", ".toml")
_PLUGINS = "assay.formats"


@cache
def ruleset() -> str:
    """``<release>+<12 hex digits>``, with formats of plugins counted in by their version."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        _add(digest, files("assay").joinpath(room), room)
    for point in sorted(entry_points(group=_PLUGINS), key=lambda point: point.name):
        release = point.dist.version if point.dist is not None else ""
        digest.update(f"{point.name} {point.value} {release}\n".encode())
    return f"{version('assay')}+{digest.hexdigest()[:12]}"


def _add(digest: hashlib._Hash, folder: Traversable, name: str) -> None:
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        path = f"{name}/{child.name}"
        if child.is_dir():
            _add(digest, child, path)
        elif child.name.endswith(_SUFFIXES):
            data = child.read_bytes()
            digest.update(f"{path} {len(data)}\n".encode())
            digest.update(data)
