"""Gates ask for the signatures that a policy requires: load, promote, and pull where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import assay
from assay.artifact.collect import collect
from assay.errors import Refused
from assay.loaders.registry import choose_loader
from assay.policy.policy import Gate
from assay.service import loading, publish, scan
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.service.signatures import sign
from assay.settings import Settings
from assay.spec.records import Version
from assay.wiring.auditing import guard_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Arrays, which numpy loads."""
    (tmp_path / "model").mkdir()
    np.savez(tmp_path / "model/arrays.npz", weight=np.arange(4))
    return tmp_path / "model"


@pytest.fixture
def warned() -> list[str]:
    """What gates said about what they let through."""
    return []


@pytest.fixture
def guard(registry: Registry, key, warned: list[str]):
    """``guard(*lines)``: what judges under a registry's policy that asks for the key's signature."""

    def make(*lines: str) -> Guard:
        home = Path(registry.place)
        (home / "policy.toml").write_text(
            "\n".join(lines)
            + f"\n[[trust.signer]]\nname = 'release'\npublic_key = '''{key.public_pem}'''\n"
            + "[[trust.require]]\nmodels = 'team/*'\nsigners = ['release']\n"
        )
        return guard_of(Settings(home, "tester"), warn=warned.append)

    return make


def load(registry: Registry, version: Version, guard: Guard) -> object:
    snapshots = Path(registry.place) / "snapshots"
    return loading.load(registry, version, guard=guard, choose=choose_loader, snapshots=snapshots)


def test_load_refuses_what_nobody_signed_and_loads_it_once_signed(registry, version, key, guard) -> None:
    with pytest.raises(Refused, match="must be signed by 1 of release") as caught:
        load(registry, version, guard())
    assert caught.value.code == "not-signed"

    sign(registry, version, key.signer)
    assert load(registry, version, guard()) is not None


def test_models_that_the_policy_does_not_name_load_unsigned(registry, model: Path, guard) -> None:
    version = publish.push(registry, collect(model), "other", guard=guard()).version
    assert load(registry, version, guard()) is not None


def test_a_gate_that_only_warns_says_who_should_have_signed(registry, version, guard, warned) -> None:
    assert load(registry, version, guard("[gates]", "load = 'warn'")) is not None
    assert "must be signed by 1 of release" in warned[0]


def test_an_alias_is_not_moved_to_what_is_not_signed(registry, version, model: Path, key, guard) -> None:
    with pytest.raises(Refused, match="alias prod was not moved"):
        publish.push(registry, collect(model), "team/model", guard=guard(), alias="prod")
    assert registry.catalog.alias("team/model", "prod") is None

    sign(registry, version, key.signer)
    publish.push(registry, collect(model), "team/model", guard=guard(), alias="prod")
    assert registry.catalog.alias("team/model", "prod") is not None


def test_pull_asks_when_it_is_told_to(registry, version, guard) -> None:
    scan.admit(registry, version, guard(), Gate.PULL, memory=None)
    with pytest.raises(Refused) as caught:
        scan.admit(registry, version, guard(), Gate.PULL, memory=None, required=True)
    assert caught.value.code == "not-signed"


def test_a_pull_from_python_asks_for_the_signatures_that_the_registry_wants(
    registry, version, guard, tmp_path: Path
) -> None:
    guard("gates.pull = 'refuse'")

    with pytest.raises(Refused) as caught:
        assay.pull(version.reference, tmp_path / "out", home=registry.place)

    assert caught.value.code == "not-signed"
    assert not (tmp_path / "out").exists()
