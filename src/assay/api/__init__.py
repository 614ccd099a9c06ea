"""The SDK facade: the verbs of the command line as functions. ``import assay`` gives them all."""

from __future__ import annotations

from assay.api.ancestry import add_base, confirm_base, lineage, retract_base
from assay.api.models import (
    inspect,
    load,
    open,  # noqa: A004 - assay.open is the name
    pull,
    push,
    show,
    versions,
)
from assay.api.rehearsal import rehearse
from assay.api.trust import bill_of_materials, convert, scan, sign, signatures, verify, vulnerabilities
from assay.wiring.examples import Example

__all__ = [
    "Example",
    "add_base",
    "bill_of_materials",
    "confirm_base",
    "convert",
    "inspect",
    "lineage",
    "load",
    "open",
    "pull",
    "push",
    "rehearse",
    "retract_base",
    "scan",
    "show",
    "sign",
    "signatures",
    "verify",
    "versions",
    "vulnerabilities",
]
