"""How conversions are tested: real formats look, the real converters work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.artifact.collect import collect, tree_of
from assay.conversion.registry import all_converters
from assay.formats.registry import all_formats
from assay.ports.converters import Options
from assay.service import converting
from assay.service.converting import Conversion
from assay.service.examine import inspect


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Conversion]:
    """``convert(path, to, **options)`` into a new folder ``out``."""

    def do(path: Path, to: str | None, *, out: str = "out", converters=None, **options) -> Conversion:
        tree = tree_of(collect(path))
        return converting.convert(
            tree,
            inspect(tree, all_formats()),
            tmp_path / out,
            converters=converters or all_converters(),
            tool="assay 0",
            to=to,
            options=Options(**options),
        )

    return do
