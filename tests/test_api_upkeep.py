"""``assay.gc``, ``assay.du``, ``assay.remove``, ``assay.pin`` and ``assay.unpin`` from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import assay


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with three versions of m."""
    (tmp_path / "model").mkdir()
    for number, loss in enumerate((0.3, 0.1, 0.2), 1):
        (tmp_path / "model/config.json").write_text(str(number) * 3000)
        assay.push(tmp_path / "model", "m", metrics={"loss": loss}, home=tmp_path / "home")
    return tmp_path / "home"


def test_usage_removal_pins_and_collection(home: Path) -> None:
    usage = assay.du(home=home)
    (model,) = usage.models
    exclusive = {one.version.number: one.exclusive for one in model.versions}
    assert assay.pin("m:1", reason="audit", home=home).pinned == "audit"
    with pytest.raises(assay.AssayError, match="pinned"):
        assay.remove("m:1", reason="old", home=home)
    assert assay.unpin("m:1", home=home).pinned is None
    assay.remove("m:1", reason="old", home=home)

    assert assay.gc(home=home).freed == 0  # the grace period
    dry = assay.gc(home=home, grace="0")
    assert (dry.freed, dry.done) == (exclusive[1], None)
    done = assay.gc(home=home, grace="0", free=True)
    assert (done.freed, assay.du(home=home).stored) == (exclusive[1], usage.stored - exclusive[1])


def test_rules_as_arguments(home: Path) -> None:
    def going(**rules) -> list[int]:
        found = assay.gc(home=home, **rules).rulings
        return sorted(one.version.number for one in found if not one.keep)

    assert going(keep_last=1) == [1, 2]
    assert going(keep_best="loss") == [1, 3]
    assert going(keep_best=["loss:higher"], keep_last=1) == [2]
    assert going(keep_younger="1d") == []
    assert going(keep_aliased=True) == [1, 2, 3]
    assert going(keep_last=1, models="other*") == []
    (home / "retention.toml").write_text("[[rule]]\nkeep_last = 2\n")
    assert going() == [1]
    assert going(retention=False) == []
