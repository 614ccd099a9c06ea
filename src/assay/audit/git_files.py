"""What git keeps in ``.git``: a cloned repository is data to git, and nothing to what loads a model.

Told by content: objects are zlib streams that begin with their type and size, the rest has magic numbers
(``gitformat-pack``, ``gitformat-index``, ``gitformat-commit-graph``). Programs that git would run are found elsewhere
(``files``): hooks, and settings that name them.
"""

from __future__ import annotations

import re

from assay.containers.compressed import peek
from assay.trees import Tree

_OBJECT = re.compile(rb"(?:blob|tree|commit|tag) \d{1,20}\0")
_PLACE = re.compile(r"(?:.*/)?\.git/(?:.*/)?(?:objects/[0-9a-f]{2}/[0-9a-f]{38,62}|[^/]+)")
_MAGIC = (b"DIRC", b"PACK", b"\xfftOc", b"RIDX", b"MIDX", b"CGPH", b"BITM")


def git_data(tree: Tree, path: str) -> bool:
    """Whether an entry is one of git's own files, by place and content."""
    if not _PLACE.fullmatch(path):
        return False
    head = tree.head(path)
    if head.startswith(_MAGIC):
        return True
    inside, codecs = peek(head, 64)
    return codecs == ("zlib",) and _OBJECT.match(inside) is not None
