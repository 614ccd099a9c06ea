"""The tree a format looks at: entry paths and windows on their bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from fnmatch import fnmatchcase
from posixpath import basename, dirname
from typing import TypeVar, cast

from assay.errors import NotFound
from assay.trees.window import Budget, MemorySource, Source, Window

HEAD = 4096
"""Bytes of an entry's beginning that ``Tree.head`` gives; enough for every magic number."""

_T = TypeVar("_T")

DEFAULT_LIMIT = 4 << 30
"""Default byte budget of one tree: no description needs more."""


class Tree:
    """Named windows of bytes.

    Paths are relative, ``/``-separated and sorted by code point. The heads of entries are read once and kept, so that
    twenty formats asking for the same magic number cost one read.

    Args:
        sources: entry path to source.
        limit: byte budget shared by everything that reads through this tree.
    """

    __slots__ = ("_heads", "_memory", "_sources", "budget", "paths")

    def __init__(self, sources: Mapping[str, Source], *, limit: int = DEFAULT_LIMIT) -> None:
        self._sources = dict(sources)
        self._heads: dict[str, bytes] = {}
        self._memory: dict[Hashable, object] = {}
        self.budget = Budget(limit)
        self.paths: tuple[str, ...] = tuple(sorted(self._sources))

    @classmethod
    def of(cls, files: Mapping[str, bytes], *, limit: int = DEFAULT_LIMIT) -> Tree:
        """A tree of bytes in memory."""
        return cls({path: MemorySource(data) for path, data in files.items()}, limit=limit)

    def __contains__(self, path: object) -> bool:
        return path in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def size(self, path: str) -> int:
        """Length of an entry in bytes.

        Raises:
            NotFound: there is no such entry.
        """
        return self._source(path).size

    def open(self, path: str) -> Window:
        """A window on a whole entry.

        Raises:
            NotFound: there is no such entry.
        """
        return Window(self._source(path), path, self.budget)

    def head(self, path: str) -> bytes:
        """The first bytes of an entry, at most ``HEAD``; read once.

        Raises:
            NotFound: there is no such entry.
        """
        found = self._heads.get(path)
        if found is None:
            found = self._heads[path] = self.open(path).read(0, HEAD)
        return found

    def remember(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What *make* gave when it was first asked for under *key*: what several readers need is made once."""
        if key not in self._memory:
            self._memory[key] = make()
        return cast("_T", self._memory[key])

    def source(self, path: str) -> Source:
        """Where an entry's bytes lie, for readers outside the budget (loaders, lazy tensors)."""
        return self._source(path)

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Entries whose whole path matches a shell pattern; ``*`` also matches ``/``."""
        return tuple(path for path in self.paths if fnmatchcase(path, pattern))

    def under(self, folder: str) -> tuple[str, ...]:
        """Entries below a folder (``""`` for all)."""
        prefix = f"{folder}/" if folder else ""
        return tuple(path for path in self.paths if path.startswith(prefix))

    def named(self, name: str) -> tuple[str, ...]:
        """Entries whose base name is *name*, in any folder."""
        return tuple(path for path in self.paths if basename(path) == name)

    @staticmethod
    def sibling(path: str, name: str) -> str:
        """The path of *name* in the same folder as *path*."""
        folder = dirname(path)
        return f"{folder}/{name}" if folder else name

    def _source(self, path: str) -> Source:
        try:
            return self._sources[path]
        except KeyError:
            raise NotFound(f"no such entry: {path}", path=path) from None
