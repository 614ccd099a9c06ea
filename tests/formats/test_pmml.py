"""PMML documents."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, BadFormat
from assay.formats.pmml import PMMLFormat
from assay.ports.formats import Format
from assay.spec.description import Description, Port
from assay.testing.formats import FormatContract
from assay.trees import Tree

FORMAT = PMMLFormat()
MODEL = b"""<?xml version="1.0"?>
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">
 <Header><Application name="maker" version="2.1"/></Header>
 <DataDictionary>
  <DataField name="age" optype="continuous" dataType="double"/>
  <DataField name="town" optype="categorical" dataType="string"/>
  <DataField name="pay" optype="continuous" dataType="double"/>
 </DataDictionary>
 <RegressionModel modelName="pay" functionName="regression">
  <MiningSchema><MiningField name="age"/><MiningField name="town"/><MiningField name="pay" usageType="target"/></MiningSchema>
  <RegressionTable intercept="1"><NumericPredictor name="age" coefficient="2"/></RegressionTable>
 </RegressionModel>
</PMML>
"""


def describe(data: bytes) -> Description:
    tree = Tree.of({"m": data})
    assert FORMAT.detect(tree) == [("m",)]
    return FORMAT.describe(tree, ("m",))


def test_a_document_says_fields_model_and_maker() -> None:
    found = describe(MODEL)

    assert (found.architecture, found.task, found.format_version) == ("RegressionModel", "regression", "4.4")
    assert (found.framework, found.framework_version) == ("maker", "2.1")
    assert found.inputs == (Port("age", "float64", (None,)), Port("town", "string", (None,)))
    assert found.outputs == (Port("pay", "float64", (None,)),)
    assert (found.parameters, found.metadata["name"]) == (1, "pay")


def test_a_tree_nested_too_deeply_is_incomplete_and_keeps_its_fields() -> None:
    found = describe(MODEL.replace(b"<RegressionTable", b"<Node>" * 5000 + b"<RegressionTable"))

    assert not found.complete
    assert len(found.inputs) == 2


def test_documents_that_end_before_their_model_are_refused() -> None:
    with pytest.raises(BadFormat):
        describe(MODEL[:200])


@pytest.mark.parametrize("data", [b"", b"PMML", b"<net name='PMML'/>", b"{}"])
def test_other_files_are_not_claimed(data: bytes) -> None:
    assert FORMAT.detect(Tree.of({"m": data})) == []


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 900), st.binary(max_size=8), st.booleans())
def test_damaged_documents_give_a_description_or_our_errors(at: int, patch: bytes, cut: bool) -> None:
    tree = Tree.of({"m": MODEL[:at] + patch + (b"" if cut else MODEL[at + len(patch) :])})
    for group in FORMAT.detect(tree):
        try:
            FORMAT.describe(tree, group)
        except AssayError:
            continue


class TestPMMLContract(FormatContract):
    def make_format(self) -> Format:
        return PMMLFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"model": MODEL}
