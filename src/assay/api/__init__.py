"""The SDK facade: the verbs of the command line as functions. ``import assay`` gives them all."""

from __future__ import annotations

from assay.api.models import (
    inspect,
    load,
    open,  # noqa: A004 - assay.open is the name
    pull,
    push,
    show,
    versions,
)
from assay.api.trust import bill_of_materials, convert, scan, sign, signatures, verify, vulnerabilities

__all__ = [
    "bill_of_materials",
    "convert",
    "inspect",
    "load",
    "open",
    "pull",
    "push",
    "scan",
    "show",
    "sign",
    "signatures",
    "verify",
    "versions",
    "vulnerabilities",
]
