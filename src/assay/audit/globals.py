"""The exact tables of names a pickle may use, each with what it may be used for, and what known dangerous names do.

The tables are data (``tables/*.json``, written by ``tools/allowed_globals.py`` and ``tools/audit_globals.py``, some
by hand): nothing is allowed by a prefix or by walking attributes, and one row has a dot in its name: how Python pickles
its own time zones. The restricted unpickler serves itself from the same tables (those marked ``loader``).

Roles:

- ``construct``: a class whose instances may be made empty and given state; its ``__init__`` never runs;
- ``call``: a class or function of which any call is harmless;
- ``helper``: may be called with arguments that its rule approves (``arguments``); a class may also be kept as a value;
- ``value``: may be named and kept, never called;
- ``nested``: as a helper, and its bytes are themselves something to audit; never kept as a value.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from assay.spec.finding import Severity

_ALIASES = {
    "_loss": "sklearn._loss._loss",  # as compiled classes of scikit-learn 1.5 to 1.7 call their module
    "numpy.core": "numpy._core",
    "sklearn.externals.joblib": "joblib",
}
# Where modules moved to without a change of meaning; applied to whole leading components only.


class Role(StrEnum):
    """What an allowed global may be used for."""

    CONSTRUCT = "construct"
    CALL = "call"
    HELPER = "helper"
    VALUE = "value"
    NESTED = "nested"


@dataclass(frozen=True, slots=True)
class Danger:
    """What a name that is known to be dangerous does.

    Args:
        severity: how bad it is.
        effect: what calling it would do, completing "loading this would …".
    """

    severity: Severity
    effect: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table.

    Args:
        role: what the name may be used for.
        rule: of helpers and nested ones: which arguments they may get.
    """

    role: Role
    rule: str = ""


def canonical_module(module: str) -> str:
    """The module under its present name.

    >>> canonical_module("numpy.core.multiarray")
    'numpy._core.multiarray'
    """
    for old, new in _ALIASES.items():
        if module == old or module.startswith(f"{old}."):
            return new + module[len(old) :]
    return module


@cache
def entries() -> dict[tuple[str, str], Entry]:
    """Every row of every table: (module, name) to what it may be used for."""
    found: dict[tuple[str, str], Entry] = {}
    strictness = [Role.VALUE, Role.CONSTRUCT, Role.CALL, Role.HELPER, Role.NESTED]
    for document in _documents():
        for role, modules in document["roles"].items():
            for module, names in modules.items():
                for name in names:
                    rule = names[name] if isinstance(names, dict) else ""
                    new, known = Entry(Role(role), rule), found.get((module, name))
                    if known is None or strictness.index(new.role) > strictness.index(known.role):
                        found[module, name] = new
    return found


@cache
def shared() -> dict[tuple[str, str], Role]:
    """The rows that the restricted unpickler takes as they are: (module, name) to role."""
    return {
        (module, name): Role(role)
        for document in _documents()
        if document["loader"]
        for role, modules in document["roles"].items()
        for module, names in modules.items()
        for name in names
    }


def entry(module: str, name: str) -> Entry | None:
    """The row of a name; None when it is not known to be harmless."""
    return entries().get((canonical_module(module), name))


def danger(module: str, name: str) -> Danger | None:
    """What is known about a dangerous name; None when nothing is.

    Attributes reached through a dotted name count: ``torch.serialization`` and ``os.system`` are ``os.system``.
    """
    known = _dangers()
    parts = f"{module}.{name}".split(".")
    for start in range(len(parts) if "." in name else 1):
        for end in range(len(parts), start, -1):
            found = known.get(".".join(parts[start:end]))
            if found is not None:
                return found
    return None


@cache
def _dangers() -> dict[str, Danger]:
    document = json.loads(_folder().joinpath("dangerous.json").read_text("utf-8"))
    return {
        name: Danger(Severity(group["severity"]), group["effect"])
        for group in document["groups"]
        for name in group["names"]
    }


def _documents() -> list[dict[str, Any]]:
    tables = sorted(_folder().iterdir(), key=lambda file: file.name)
    return [
        json.loads(file.read_text("utf-8"))
        for file in tables
        if file.name.endswith(".json") and file.name != "dangerous.json"
    ]


def _folder() -> Traversable:
    return files("assay.audit").joinpath("tables")
