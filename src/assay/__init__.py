"""Assay: trained-model artifacts, packed, understood, verified and versioned under one digest.

    import assay

    version = assay.push("./model", "fraud/churn", metrics={"auc": 0.91})
    model = assay.load("fraud/churn")

Names are resolved on first use (PEP 562), so that ``import assay`` costs milliseconds and imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.api import (
        Example,
        add_base,
        approve,
        bill_of_materials,
        bisect,
        confirm_base,
        convert,
        diff,
        du,
        evaluate,
        gc,
        hub_cache,
        import_from,
        inspect,
        lineage,
        load,
        load_tensors,
        metrics,
        open,  # noqa: A004 - assay.open is the name
        pack_store,
        pin,
        promote,
        pull,
        push,
        rehearse,
        remove,
        retract_base,
        rollback,
        scan,
        show,
        sign,
        signatures,
        stream_tensors,
        unalias,
        unpack,
        unpin,
        verify,
        versions,
        vulnerabilities,
        yank,
    )
    from assay.errors import AssayError

__version__ = "0.1.0.dev0"

__all__ = [
    "AssayError",
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


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    module = import_module("assay.errors" if name == "AssayError" else "assay.api")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
