"""Damaged models: what every format must do with them."""

from __future__ import annotations

from assay.errors import AssayError
from assay.ports.formats import Format
from assay.spec.inspection import description_json
from assay.spec.json import canonical
from assay.trees import Tree


def survives(form: Format, data: bytes, name: str = "m") -> None:
    """Only our errors leave *form* when it meets *data*; what it describes becomes JSON and lies inside the bytes."""
    tree = Tree.of({name: data}, limit=64 << 20)
    for group in form.detect(tree):
        try:
            found = form.describe(tree, group)
        except AssayError:
            continue
        canonical(description_json(found))
        assert all(
            spec.extent is None or spec.extent.offset + spec.extent.length <= len(data) for spec in found.tensors
        )
