"""How loader tests go from files to objects: the real formats look, the real registry chooses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.artifact.collect import collect, tree_of
from assay.formats.registry import all_formats
from assay.loaders.registry import choose_loader, choose_saver
from assay.ports.loaders import Saved
from assay.service.examine import inspect
from assay.spec.inspection import Inspection


def _look(folder: Path) -> Inspection:
    return inspect(tree_of(collect(folder)), all_formats())


@pytest.fixture
def look() -> Callable[[Path], Inspection]:
    """What the formats find in a folder."""
    return _look


@pytest.fixture
def load() -> Callable[[Path], object]:
    """Load a folder the way ``assay.load`` does."""

    def get(folder: Path) -> object:
        inspection = _look(folder)
        loader, description = choose_loader(inspection)
        return loader.load(folder, description, inspection.descriptions)

    return get


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., tuple[Path, Saved]]:
    """Save a live object the way ``assay.push`` does, into a new folder, which is then made read-only."""

    def put(model: object, name: str = "saved") -> tuple[Path, Saved]:
        folder = tmp_path / name
        folder.mkdir()
        saved = choose_saver(model).save(model, folder)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        return folder, saved

    return put


@pytest.fixture
def bytes_of() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder, by relative path."""

    def get(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    return get
