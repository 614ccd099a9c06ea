"""A registry on disk, and small models to put into it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from model_files import safetensors

from assay.artifact.collect import collect
from assay.service import publish
from assay.service.publish import Claims, Pushed
from assay.service.registry import Registry
from assay.settings import Settings
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def registry(home: Path) -> Registry:
    return open_registry(Settings(home, "tester"), create=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights, a configuration, a card, an empty file and a nested one."""
    folder = tmp_path / "model"
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(weight=("F32", [2, 3], struct.pack("<6f", *range(6)))))
    (folder / "settings.json").write_text('{"threshold": 0.5}')
    (folder / "README.md").write_text("# A model\n")
    (folder / "extra" / "empty.bin").write_bytes(b"")
    (folder / "extra" / "größe 名.txt").write_bytes(b"abc")
    return folder


@pytest.fixture
def push(registry: Registry):
    """``push(path, name, **options)``."""

    def do(path: Path, name: str = "team/model", **options) -> Pushed:
        claims = options.pop("claims", Claims())
        return publish.push(
            registry,
            collect(path),
            name,
            guard=guard_of(Settings(Path(registry.place), "tester")),
            claims=claims,
            **options,
        )

    return do
