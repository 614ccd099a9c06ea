"""Keys, certificates, a registry on disk, and a small model to sign."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_files import safetensors
from signing_authority import Authority, new_root

from assay.artifact.collect import collect
from assay.service import publish
from assay.service.registry import Registry
from assay.settings import Settings
from assay.signing.keys import KeySigner, pem_of
from assay.spec.records import Version
from assay.wiring.auditing import guard_of
from assay.wiring.places import open_registry

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@dataclass(frozen=True)
class Key:
    """A key pair as objects and as files."""

    private: ec.EllipticCurvePrivateKey
    file: Path

    @property
    def public_file(self) -> Path:
        return self.file.with_suffix(".pub")

    @property
    def public_pem(self) -> str:
        return pem_of(self.private.public_key()).decode()

    @property
    def signer(self) -> KeySigner:
        return KeySigner(self.private)


@pytest.fixture
def new_key(tmp_path: Path) -> Callable[..., Key]:
    """``new_key(name, curve)``: a key pair, also as ``name.pem`` and ``name.pub``."""

    def make(name: str = "release", curve: str = "P-256") -> Key:
        key = Key(ec.generate_private_key(CURVES[curve]), tmp_path / f"{name}.pem")
        key.file.write_bytes(
            key.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        key.public_file.write_text(key.public_pem)
        return key

    return make


@pytest.fixture
def key(new_key: Callable[..., Key]) -> Key:
    return new_key()


@pytest.fixture
def root() -> Authority:
    return new_root()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(tmp_path / "home", "tester"), create=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder whose names sort differently as text and as paths."""
    folder = tmp_path / "model"
    (folder / "extra").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(weight=("F32", [2, 3], struct.pack("<6f", *range(6)))))
    (folder / "settings.json").write_text('{"threshold": 0.5}')
    (folder / "extra.json").write_text("{}")
    (folder / "extra" / "größe 名.txt").write_text("text")
    (folder / "extra" / "empty.txt").write_bytes(b"")
    return folder


@pytest.fixture
def version(registry: Registry, model: Path) -> Version:
    return publish.push(
        registry, collect(model), "team/model", guard=guard_of(Settings(Path(registry.place), "tester"))
    ).version
