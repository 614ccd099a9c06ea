"""Plugins join the formats; those that cannot are left out with a warning."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint

import pytest

from assay.formats import registry
from assay.ports import plugins
from assay.spec.description import Description
from assay.trees import Tree


class Mine:
    """A format of somebody else's."""

    name = "mine"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """Nothing."""
        return []

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Nothing."""
        return Description(format=self.name, paths=paths)


class Namesake(Mine):
    """A format with a name of ours."""

    name = "onnx"


def test_a_plugin_joins_after_ours_and_those_that_cannot_are_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brought = {"a-mine": Mine, "b-namesake": Namesake, "c-other": object()}

    def load(point: EntryPoint) -> object:
        return brought[point.name]  # "d-missing" is none of them, as when a module is not there

    points = [EntryPoint(name, "tests", registry.GROUP) for name in (*brought, "d-missing")]
    monkeypatch.setattr(EntryPoint, "load", load)
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == registry.GROUP else [])
    registry.all_formats.cache_clear()
    try:
        with pytest.warns(UserWarning, match="is left out") as warned:
            found = registry.all_formats()
    finally:
        registry.all_formats.cache_clear()

    assert isinstance(found[-1], Mine)
    assert [form.name for form in found].count("onnx") == 1
    reasons = [str(item.message).partition("left out: ")[2] for item in warned]
    assert reasons == ["its name is taken", "it is no Format", "'d-missing'"]
