"""Frameworks as optional libraries: import one that is needed, or notice that it is not there.

Rule for editors: ``imported`` never imports. A saver may look at an object only through modules that are loaded
already, because an object of a framework cannot exist before its framework was imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from assay.errors import MissingDependency


def need(module: str, *, distribution: str | None = None, extra: str | None = None, what: str) -> Any:
    """Import a framework.

    Args:
        module: dotted name.
        distribution: what to install, when it is not called like the module.
        extra: the extra of ``assay`` that brings it, if there is one.
        what: what it is needed for, for the message ("load an ONNX model").

    Raises:
        MissingDependency: it is not installed, or it is installed and cannot be imported.
    """
    name = distribution or module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") in _parents(module)
        reason = "is not installed" if missing else f"cannot be imported ({_first_line(error)})"
        install = f"pip install 'assay[{extra}]'" if extra else f"pip install {name}"
        raise MissingDependency(f"{name} is needed to {what} and {reason}", hint=install, dependency=name) from error


def imported(module: str) -> ModuleType | None:
    """A module that was imported already, or None."""
    return sys.modules.get(module)


def is_instance(value: object, *names: str) -> bool:
    """Whether *value*'s class is, or derives from, one of these (``module.Class``), judged by name alone."""
    wanted = set(names)
    return any(f"{cls.__module__}.{cls.__qualname__}" in wanted for cls in type(value).__mro__)


def top_modules(value: object) -> tuple[str, ...]:
    """Top-level module names of a value's class and its bases, standard library left out, most derived first."""
    found = (cls.__module__.partition(".")[0] for cls in type(value).__mro__)
    return tuple(dict.fromkeys(name for name in found if name not in sys.stdlib_module_names))


def reason(error: BaseException) -> str:
    """The kind and first line of an exception, short enough for a message."""
    return f"{type(error).__name__}: {_first_line(error)}" if str(error) else type(error).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _parents(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[: index + 1]) for index in range(len(parts))}
