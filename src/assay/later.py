"""Modules that are imported when something in them is first asked for.

A command costs what it imports before it costs what it does: the rules of audits, the codec of packs and SQLAlchemy
together take longer than answering ``assay ls``. So whoever puts implementations together, or holds one that most calls
do not need, names its module this way, at the top like every import:

    if TYPE_CHECKING:
        from assay.formats import registry as formats
    else:
        formats = later("assay.formats.registry")

    formats.all_formats()  # imported here, the first time

Type checkers and the linter of arrows see the import as it is written; people see all that a module needs in one place.

For modules that cost tens of milliseconds and that not everybody needs. Not for optional libraries: a module that is
missing must be explained, not stumbled over (``assay.errors.MissingDependency``).
"""

from __future__ import annotations

from importlib import import_module


class _Later:
    """Stands for a module; import lock and ``sys.modules`` make it safe for several threads."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        return getattr(import_module(self._name), attribute)

    def __repr__(self) -> str:
        return f"<{self._name}, when it is needed>"


def later(name: str) -> _Later:
    """The module of that name, imported when an attribute of it is first asked for."""
    return _Later(name)
