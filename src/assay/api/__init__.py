"""The SDK facade: the verbs of the command line as functions. ``import assay`` gives them all.

A verb's module is imported when the verb is first asked for (PEP 562): listing versions needs no loader.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.api.ancestry import add_base, confirm_base, lineage, retract_base
    from assay.api.bisecting import bisect
    from assay.api.changes import diff
    from assay.api.evaluation import evaluate, metrics
    from assay.api.importing import import_from
    from assay.api.models import (
        hub_cache,
        inspect,
        load,
        open,  # noqa: A004 - assay.open is the name
        pull,
        push,
        show,
        versions,
    )
    from assay.api.promotion import approve, promote, rollback, unalias, yank
    from assay.api.rehearsal import rehearse
    from assay.api.tensors import load_tensors, stream_tensors
    from assay.api.trust import bill_of_materials, convert, scan, sign, signatures, verify, vulnerabilities
    from assay.api.upkeep import du, gc, pack_store, pin, remove, unpack, unpin
    from assay.wiring.examples import Example

__all__ = [
    "Example",
    "add_base",
    "approve",
    "bill_of_materials",
    "bisect",
    "confirm_base",
    "convert",
    "diff",
    "du",
    "evaluate",
    "gc",
    "hub_cache",
    "import_from",
    "inspect",
    "lineage",
    "load",
    "load_tensors",
    "metrics",
    "open",
    "pack_store",
    "pin",
    "promote",
    "pull",
    "push",
    "rehearse",
    "remove",
    "retract_base",
    "rollback",
    "scan",
    "show",
    "sign",
    "signatures",
    "stream_tensors",
    "unalias",
    "unpack",
    "unpin",
    "verify",
    "versions",
    "vulnerabilities",
    "yank",
]

_NAMES = {
    "assay.api.ancestry": ("add_base", "confirm_base", "lineage", "retract_base"),
    "assay.api.bisecting": ("bisect",),
    "assay.api.changes": ("diff",),
    "assay.api.evaluation": ("evaluate", "metrics"),
    "assay.api.importing": ("import_from",),
    "assay.api.models": ("hub_cache", "inspect", "load", "open", "pull", "push", "show", "versions"),
    "assay.api.promotion": ("approve", "promote", "rollback", "unalias", "yank"),
    "assay.api.rehearsal": ("rehearse",),
    "assay.api.tensors": ("load_tensors", "stream_tensors"),
    "assay.api.trust": ("bill_of_materials", "convert", "scan", "sign", "signatures", "verify", "vulnerabilities"),
    "assay.api.upkeep": ("du", "gc", "pack_store", "pin", "remove", "unpack", "unpin"),
    "assay.wiring.examples": ("Example",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'assay.api' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
