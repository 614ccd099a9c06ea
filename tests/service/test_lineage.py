"""Lineage: edges from people, files and weights; tracing both ways; taking back; what warns."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors

from assay.errors import InvalidInput, NotFound, Refused
from assay.service import garbage, removing, yanking
from assay.service import purge as purging
from assay.service.ancestry import hub_name
from assay.service.declared import FILE, said
from assay.service.lineage import bases_given
from assay.service.publish import Base, Claims
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.lineage import Edge, Graph, Lineage, Relation, Source
from assay.spec.records import EventKind, Version
from assay.spec.reference import Reference
from assay.spec.statement import Statement
from assay.wiring.lineage import DECLARED, SKETCHES, Search, confirm, forget, lineage, say, take_back


@pytest.fixture
def made(push, tmp_path: Path):
    """``made(name, *bases, relation=…)``: a version that was made from others."""
    count = 0

    def do(name: str, *bases: str, relation: str | None = None, run: str | None = None) -> Version:
        nonlocal count
        count += 1
        file = tmp_path / f"settings-{count}.json"
        file.write_text(json.dumps({"threshold": count}))
        return push(file, name, claims=Claims(bases=bases_given(bases, relation), run=run)).version

    return do


@pytest.fixture
def folder(push, tmp_path: Path):
    """``folder(name, files)``: a version with these files."""

    def do(name: str, files: dict[str, object], **options) -> Version:
        at = tmp_path / name.replace("/", "-")
        at.mkdir()
        for path, body in files.items():
            data = (
                body
                if isinstance(body, bytes)
                else body.encode()
                if isinstance(body, str)
                else json.dumps(body).encode()
            )
            (at / path).write_bytes(data)
        return push(at, name, **options).version

    return do


def weights(seed: int, *, moved: float = 0.0) -> bytes:
    start = np.random.default_rng(seed)
    more = np.random.default_rng(seed + 1000)
    tensors = {}
    for layer in range(4):
        value = start.normal(size=(64, 64))
        value += moved * more.normal(size=(64, 64))
        tensors[f"layer.{layer}"] = ("F32", [64, 64], value.astype("<f4").tobytes())
    return safetensors(**tensors)


def seen(registry: Registry, version: Version, **search) -> Lineage:
    return lineage(registry, version, Search(**search))


def told(found: Lineage) -> list[tuple[str, str, str, str]]:
    """Edges as (subject, relation, other end, source)."""
    return [
        (found.nodes[edge.start].name, edge.relation.value, found.nodes[edge.target].name, edge.source.value)
        for edge in found.edges
    ]


def test_ancestors_and_descendants_are_found_over_all_models_and_all_steps(registry: Registry, made) -> None:
    made("team/base")
    middle = made("team/tuned", "team/base")
    made("other/small", "team/tuned:1", relation="quantized-from")
    made("other/stranger")

    found = seen(registry, middle)

    assert [node.name for node in found.ancestors] == ["team/base:1"]
    assert [node.name for node in found.descendants] == ["other/small:1"]
    assert [node.name for node in seen(registry, registry.catalog.version("team/base", 1)).descendants] == [
        "team/tuned:1",
        "other/small:1",
    ]
    assert told(found) == [
        ("team/tuned:1", "finetuned-from", "team/base:1", "given"),
        ("other/small:1", "quantized-from", "team/tuned:1", "given"),
    ]


def test_one_way_and_few_steps_can_be_asked_for(registry: Registry, made) -> None:
    made("a")
    made("b", "a")
    middle = made("c", "b")
    made("d", "c")

    assert list(told(seen(registry, middle, down=False))) == [
        ("b:1", "finetuned-from", "a:1", "given"),
        ("c:1", "finetuned-from", "b:1", "given"),
    ]
    assert [node.name for node in seen(registry, middle, up=False).nodes.values()] == ["c:1", "d:1"]
    assert [node.name for node in seen(registry, middle, depth=1).nodes.values()] == ["c:1", "b:1", "d:1"]


def test_several_bases_are_a_merge_unless_something_else_is_said() -> None:
    assert {base.relation for base in bases_given(["a", "b"], None)} == {Relation.MERGED_FROM}
    assert {base.relation for base in bases_given(["a"], None)} == {Relation.FINETUNED_FROM}
    assert {base.relation for base in bases_given(["a", "b"], "distilled-from")} == {Relation.DISTILLED_FROM}


@pytest.mark.parametrize(
    ("names", "relation", "code"),
    [
        (["a"], "stolen-from", "unknown-relation"),
        (["a"], "trained-by", "unknown-relation"),
        ([], "adapter-of", "invalid-base"),
    ],
)
def test_what_is_no_relation_to_a_base_is_refused(names: list[str], relation: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bases_given(names, relation)

    assert caught.value.code == code


def test_a_diamond_holds_each_node_once(registry: Registry, made) -> None:
    made("base")
    made("left", "base")
    made("right", "base")
    merge = made("merge", "left", "right")

    found = seen(registry, merge)

    assert [node.name for node in found.nodes.values()] == ["merge:1", "left:1", "right:1", "base:1"]
    assert len(found.edges) == 4


def test_the_run_and_names_that_are_not_here_are_leaves(registry: Registry, made) -> None:
    version = made("m", "org/Somewhere", run="https://runs.example/17")

    found = seen(registry, version)

    assert told(found) == [
        ("m:1", "finetuned-from", "org/Somewhere", "given"),
        ("m:1", "trained-by", "https://runs.example/17", "given"),
    ]
    assert [(node.run, node.references) for node in found.ancestors] == [(False, ()), (True, ())]


def test_versions_of_one_run_are_not_each_others_bases(registry: Registry, made) -> None:
    first = made("m", run="https://runs.example/17")
    made("n", run="https://runs.example/17")

    assert [node.name for node in seen(registry, first).nodes.values()] == ["m:1", "https://runs.example/17"]


def test_a_name_in_a_file_means_the_newest_version_of_its_time(registry: Registry, made, folder) -> None:
    made("org/base")
    made("org/base")
    card = "---\nbase_model: Org/Base\n---\n"
    tuned = folder("team/tuned", {"README.md": card, "config.json": {"model_type": "bert"}})
    made("org/base")

    found = seen(registry, tuned)

    assert told(found) == [("team/tuned:1", "finetuned-from", "org/base:2", "files")]
    assert found.edges[0].evidence["version"] == "the newest when it was pushed"


def test_a_base_that_comes_later_is_found_by_its_name_all_the_same(registry: Registry, made) -> None:
    version = made("m", "org/base")
    made("org/base")

    assert told(seen(registry, version)) == [("m:1", "finetuned-from", "org/base:1", "given")]


@pytest.mark.parametrize(
    ("card", "relation"),
    [
        ("base_model: org/base", "finetuned-from"),
        ("base_model: org/base\nbase_model_relation: quantized", "quantized-from"),
        ("base_model: org/base\nbase_model_relation: adapter", "adapter-of"),
        ("base_model: [org/base, org/other]", "merged-from"),
        ("base_model: [org/base, org/other]\nbase_model_relation: finetune", "finetuned-from"),
    ],
)
def test_a_model_card_names_the_relation_or_it_follows_from_the_files(
    card: str, relation: str, registry: Registry, folder
) -> None:
    version = folder("m", {"README.md": f"---\n{card}\n---\n", "config.json": {"model_type": "bert"}})

    found = seen(registry, version)

    assert {edge.relation.value for edge in found.edges} == {relation}
    assert {edge.source for edge in found.edges} == {Source.FILES}


def test_quantised_weights_make_the_card_s_base_a_quantised_one(registry: Registry, folder) -> None:
    config = {"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    version = folder("m", {"README.md": "---\nbase_model: org/base\n---\n", "config.json": config})

    assert [edge.relation for edge in seen(registry, version).edges] == [Relation.QUANTIZED_FROM]


def test_an_adapter_names_what_it_changes(registry: Registry, folder) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "https://huggingface.co/Org/Base", "r": 8}
    version = folder("m", {"adapter_config.json": config, "adapter_model.safetensors": weights(1)})

    assert told(seen(registry, version)) == [("m:1", "adapter-of", "https://huggingface.co/Org/Base", "files")]


def test_an_mlflow_model_names_its_run(registry: Registry, folder) -> None:
    body = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\nrun_id: 0123abc\nmlflow_version: 3.1.0\n"
    version = folder("m", {"MLmodel": body})

    assert told(seen(registry, version)) == [("m:1", "trained-by", "mlflow run 0123abc", "files")]


def description(**model: object) -> dict[str, object]:
    """What the statement about one model says of its bases, as (name, relation)."""
    statement = Statement(Digest.of(b""), "description", {"models": [model]}, datetime(2026, 1, 1, tzinfo=UTC))
    bases = said(statement)["bases"]
    assert isinstance(bases, list)
    return {base["name"]: base["relation"] for base in bases}


@pytest.mark.parametrize(
    ("metadata", "bases", "dtypes", "expected"),
    [
        ({}, ["org/base"], {"q4_1": 9}, {"org/base": "finetuned-from"}),
        (
            {"general.name": "Base 7B"},
            ["https://hf.co/org/base-7b"],
            {"q4_1": 9, "float32": 1},
            {"https://hf.co/org/base-7b": "quantized-from"},
        ),
        ({"general.name": "Base 7B"}, ["org/base-7b"], {"float16": 9}, {"org/base-7b": "finetuned-from"}),
        ({"general.source.repo_url": "https://hf.co/o/m"}, [], {"float16": 9}, {"https://hf.co/o/m": "converted-from"}),
        ({"general.source.url": "https://hf.co/o/m"}, [], {"q8_0": 9}, {"https://hf.co/o/m": "quantized-from"}),
        ({}, ["a/b", "c/d"], {"q4_1": 9}, {"a/b": "merged-from", "c/d": "merged-from"}),
    ],
)
def test_a_gguf_header_names_what_it_was_converted_from_or_trained_from(
    metadata: dict, bases: list[str], dtypes: dict, expected: dict[str, str]
) -> None:
    assert description(format="gguf", metadata=metadata, base_models=bases, dtypes=dtypes) == expected


def test_a_version_that_says_where_it_is_published_is_what_others_mean_by_that_address(
    registry: Registry, made, folder
) -> None:
    header = {"general.repo_url": "https://huggingface.co/Org/Published"}
    published = made("local/name")
    statement = Statement(
        published.manifest, "description", {"models": [{"format": "gguf", "metadata": header}]}, published.created
    )
    registry.attach(statement, registry.manifest(published))

    version = folder("m", {"README.md": "---\nbase_model: Org/Published\n---\n", "config.json": {"model_type": "bert"}})

    assert told(seen(registry, version)) == [("m:1", "finetuned-from", "local/name:1", "files")]


@pytest.mark.parametrize(
    "body",
    [
        {"name": 7},
        {"name": " "},
        {"relation": "stolen-from", "name": "x"},
        {"relation": "trained-by", "name": "x"},
        {"name": "x", "source": "an oracle"},
        {"name": "x", "manifest": "sha256:zz"},
        {"name": "x", "revision": "high", "retracted": "perhaps", "evidence": ["no"]},
        {},
    ],
)
def test_a_foreign_statement_of_any_form_spoils_nothing(body: dict, registry: Registry, made) -> None:
    made("base")
    version = made("m", "base")
    registry.attach(Statement(version.manifest, "base", body, version.created), registry.manifest(version))

    found = told(seen(registry, version))

    assert ("m:1", "finetuned-from", "base:1", "given") in found
    assert {name for _, _, name, _ in found} <= {"base:1", "x"}


def test_a_foreign_statement_cannot_fill_the_home_or_steer_a_terminal(registry: Registry, home: Path, made) -> None:
    made("base")
    version = made("m", "base")
    base = registry.catalog.version("base", 1)
    for kind, body in (
        ("base", {"name": "x" * 10**6, "evidence": {"a": ["y" * 10**6] * 40}}),
        ("audit", {"verdict": "\x1b[2J", "summary": "z" * 10**6}),
    ):
        registry.attach(Statement(base.manifest, kind, body, base.created), registry.manifest(base))

    found = seen(registry, version)

    assert [condition.kind for condition in found.nodes[str(base.manifest)].conditions] == ["unverified"]
    assert (home / DECLARED / FILE).stat().st_size < 500_000


def test_a_base_that_is_not_here_keeps_its_name_and_its_digest(registry: Registry, made) -> None:
    version = made("m")
    elsewhere = Digest.of(b"elsewhere")
    body = {
        "relation": "finetuned-from",
        "name": "their/base:7",
        "reference": "their/base:7",
        "manifest": str(elsewhere),
    }
    registry.attach(Statement(version.manifest, "base", body, version.created), registry.manifest(version))

    found = seen(registry, version)

    assert [(node.key, node.name, node.references) for node in found.ancestors] == [
        (str(elsewhere), "their/base:7", ())
    ]


def test_of_two_statements_that_came_in_the_wrong_order_the_higher_revision_speaks(registry: Registry, made) -> None:
    version = made("m")
    bodies = [
        {"relation": "finetuned-from", "name": "x", "revision": 1, "retracted": True},
        {"relation": "finetuned-from", "name": "x"},
    ]
    for body in bodies:
        registry.attach(Statement(version.manifest, "base", body, version.created), registry.manifest(version))

    assert told(seen(registry, version)) == []


def test_a_person_may_have_said_a_cycle_and_it_is_traced(registry: Registry, made) -> None:
    first, second = made("a"), made("b", "a")
    body = {"relation": "finetuned-from", "name": "b:1", "manifest": str(second.manifest)}
    registry.attach(Statement(first.manifest, "base", body, first.created), registry.manifest(first))

    found = seen(registry, first)

    assert [node.name for node in found.nodes.values()] == ["a:1", "b:1"]
    assert len(found.edges) == 2
    assert found.warnings == ()


def test_what_a_person_says_overrules_the_guess_from_a_file(registry: Registry, folder, made) -> None:
    made("org/base")
    version = folder("m", {"README.md": "---\nbase_model: org/base\n---\n", "config.json": {"model_type": "bert"}})
    say(registry, version, [Base("org/base", Relation.DISTILLED_FROM)])

    assert told(seen(registry, version)) == [("m:1", "distilled-from", "org/base:1", "given")]


def test_what_is_said_twice_is_recorded_once(registry: Registry, made) -> None:
    made("base")
    version = made("m", "base")

    assert say(registry, version, [Base("base")]) == (False,)
    assert len(registry.statements(version.manifest, "base")) == 1


def test_an_edge_is_taken_back_said_again_and_taken_back_again(registry: Registry, made) -> None:
    made("base")
    version = made("m", "base")

    gone = take_back(registry, version, "base", reason="it was another one")
    without = told(seen(registry, version))
    again = say(registry, version, [Base("base:1")])
    back = told(seen(registry, version))
    take_back(registry, version, "base:1", reason="no, it was not")

    assert gone == ("finetuned-from",)
    assert without == []
    assert again == (True,)
    assert back == [("m:1", "finetuned-from", "base:1", "given")]
    assert told(seen(registry, version)) == []
    assert [statement.predicate.get("revision", 0) for statement in registry.statements(version.manifest, "base")] == [
        0,
        1,
        2,
        3,
    ]


def test_an_edge_that_a_file_states_can_be_taken_back(registry: Registry, folder) -> None:
    version = folder("m", {"README.md": "---\nbase_model: Org/Lie\n---\n", "config.json": {"model_type": "bert"}})

    take_back(registry, version, "Org/Lie", reason="copied from a template")

    assert told(seen(registry, version)) == []


def test_only_the_relation_that_is_named_is_taken_back(registry: Registry, made) -> None:
    made("base")
    version = made("m", "base")
    say(registry, version, [Base("base", Relation.DISTILLED_FROM)])

    take_back(registry, version, "base", relation="finetuned-from", reason="wrong word")

    assert told(seen(registry, version)) == [("m:1", "distilled-from", "base:1", "given")]


def test_what_nobody_said_cannot_be_taken_back(registry: Registry, made) -> None:
    made("base")

    with pytest.raises(NotFound) as caught:
        take_back(registry, made("m"), "base", reason="?")

    assert caught.value.code == "edge-not-found"


def test_nothing_becomes_its_own_ancestor(registry: Registry, made) -> None:
    base = made("base")
    made("middle", "base")
    made("end", "middle")

    for name in ("base", "end"):
        with pytest.raises(InvalidInput) as caught:
            say(registry, base, [Base(name)])
        assert caught.value.code == "lineage-cycle"


def test_conditions_of_ancestors_warn_their_descendants(registry: Registry, made) -> None:
    base = made("base")
    made("middle", "base")
    end = made("end", "middle")
    registry.catalog.mark("base", 1, EventKind.YANKED, reason="trained on leaked data", actor="x")

    found = seen(registry, end)

    assert found.warnings == ("end:1 descends from base:1, which is yanked: trained on leaked data",)
    assert [condition.kind for condition in found.nodes[str(base.manifest)].conditions] == ["yanked"]
    assert seen(registry, base).warnings == ("base:1 is yanked, and 2 artifacts descend from it",)


def test_an_ancestor_whose_audit_was_not_safe_warns(registry: Registry, push, tmp_path: Path, made) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    push(tmp_path / "evil.pkl", "bad")
    version = made("m", "bad")

    (warning,) = seen(registry, version).warnings

    assert warning.startswith("m:1 was made from bad:1, which is unsafe: ")


def test_a_finding_reaches_through_a_removed_version_whose_bytes_are_freed(registry: Registry, made) -> None:
    base = made("base")
    middle = made("middle", "base", run="https://runs.example/17")
    leaf = made("leaf", "middle")
    removing.remove(registry, middle, reason="old")
    garbage.collect(registry, garbage.plan(registry, grace=timedelta(0)))
    yanking.yank(registry, Reference.parse("base:1"), reason="leaked data")
    assert registry.blobs.size(middle.manifest) is None
    (Path(registry.place) / DECLARED / FILE).unlink(missing_ok=True)  # what the home remembers may be deleted
    registry.catalog.reindex()

    found = lineage(registry, leaf, Search())

    assert {node.name for node in found.ancestors} == {"middle:1", "base:1", "https://runs.example/17"}
    assert "leaf:1 descends from base:1, which is yanked: leaked data" in found.warnings
    assert [node.name for node in lineage(registry, base, Search()).descendants] == ["middle:1", "leaf:1"]


def test_what_was_taken_back_stays_taken_back_when_its_statements_are_freed(registry: Registry, made) -> None:
    made("base")
    middle = made("middle", "base")
    leaf = made("leaf", "middle")
    take_back(registry, middle, "base", reason="wrong")
    removing.remove(registry, middle, reason="old")

    garbage.collect(registry, garbage.plan(registry, grace=timedelta(0)))

    assert [node.name for node in lineage(registry, leaf, Search()).ancestors] == ["middle:1"]


def test_nothing_that_was_said_of_freed_files_comes_back_with_a_new_version_of_them(
    registry: Registry, push, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    first = push(file, "m", claims=Claims(bases=(Base("org/wrong"),))).version
    removing.remove(registry, first, reason="old")
    garbage.collect(registry, garbage.plan(registry, grace=timedelta(0)))
    assert [node.name for node in lineage(registry, first, Search()).ancestors] == ["org/wrong"]

    again = push(file, "m").version

    assert (again.number, lineage(registry, again, Search()).ancestors) == (2, ())


def test_the_history_keeps_nothing_of_what_was_purged(registry: Registry, made) -> None:
    version = made("m", "org/secret")
    purging.purge(registry, version, reason="leaked")
    garbage.collect(registry, garbage.plan(registry, grace=timedelta(0)))

    assert all("said" not in event.data for event in registry.catalog.events())


def test_purged_and_removed_versions_stay_nodes(registry: Registry, made) -> None:
    base = made("base")
    middle = made("middle", "base")
    end = made("end", "middle")
    purging.purge(registry, base, reason="licence")
    registry.catalog.mark("middle", 1, EventKind.REMOVED, reason="retention", actor="x")

    found = seen(registry, end)

    assert [(node.name, [one.kind for one in node.conditions]) for node in found.ancestors] == [
        ("middle:1", ["removed"]),
        ("base:1", ["purged"]),
    ]
    assert found.nodes[str(middle.manifest)].references == ("middle:1",)


def test_what_a_purged_version_said_goes_with_it_although_it_was_remembered(registry: Registry, made) -> None:
    made("base")
    version = made("m", "org/Secret Name", "base")
    seen(registry, version)

    purging.purge(registry, version, reason="licence")

    assert told(seen(registry, registry.catalog.version("m", 1))) == []


def test_nothing_of_a_purged_version_stays_in_the_home(registry: Registry, home: Path, folder) -> None:
    version = folder("m", {"model.safetensors": weights(1), "README.md": "---\nbase_model: Org/Secret\n---\n"})
    other = folder("n", {"model.safetensors": weights(1, moved=0.1)})
    seen(registry, other, detect=True)

    purging.purge(registry, version, reason="licence")
    forget(registry, version)

    assert [file.stem for file in (home / SKETCHES).rglob("*.sketch")] == [other.manifest.hex]
    assert b"Secret" not in (home / DECLARED / FILE).read_bytes()
    assert told(seen(registry, other)) == []


def test_one_artifact_under_two_names_is_one_node(registry: Registry, model: Path, push, made) -> None:
    first = push(model, "one").version
    push(model, "two")
    made("m", "two")

    found = seen(registry, first)

    assert found.nodes[found.root].references == ("one:1", "two:1")
    assert [node.name for node in found.descendants] == ["m:1"]


def test_statements_are_read_once_and_read_again_when_what_is_remembered_is_damaged(
    registry: Registry, home: Path, made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made("base")
    version = made("m", "base")
    before = told(seen(registry, version))
    file = home / DECLARED / FILE
    read = []
    monkeypatch.setattr(Registry, "statement", lambda _, referrer: read.append(referrer))

    assert told(seen(registry, version)) == before
    assert read == []
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-40] + b"\n{torn\n")
    assert told(seen(registry, version)) == before


def test_a_statement_that_cannot_be_read_hides_no_other_edge(registry: Registry, made) -> None:
    made("base")
    version = made("m", "base")
    other = made("n", "base")
    for referrer in registry.referrers(other.manifest):
        registry.blobs.delete(referrer.manifest)

    found = seen(registry, version)

    assert told(found) == [("m:1", "finetuned-from", "base:1", "given")]
    assert found.unread == 3  # what it is, its base, its audit


def test_weights_suggest_an_edge_that_nothing_records(registry: Registry, folder, home: Path) -> None:
    folder("base", {"model.safetensors": weights(1)})
    folder("stranger", {"model.safetensors": weights(2)})
    version = folder("tuned", {"model.safetensors": weights(1, moved=0.1)})

    found = seen(registry, version, detect=True)

    assert told(found) == [("tuned:1", "finetuned-from", "base:1", "detected")]
    assert found.detected[0].evidence["shared"] == 4
    assert seen(registry, version).edges == ()
    assert registry.statements(version.manifest, "base") == []
    assert len(list((home / SKETCHES).rglob("*.sketch"))) == 3


def test_the_older_one_is_the_base_whichever_is_asked_about(registry: Registry, folder) -> None:
    base = folder("base", {"model.safetensors": weights(1)})
    folder("tuned", {"model.safetensors": weights(1, moved=0.1)})

    assert told(seen(registry, base, detect=True)) == [("tuned:1", "finetuned-from", "base:1", "detected")]


def test_siblings_and_grandparents_are_not_proposed(registry: Registry, folder) -> None:
    folder("base", {"model.safetensors": weights(1)})
    near = folder("near", {"model.safetensors": weights(1, moved=0.05)})
    far = folder("far", {"model.safetensors": weights(1, moved=0.3)})

    # far is a fine-tune of base in another direction than none: near lies on the way to it.
    assert [name for _, _, name, _ in told(seen(registry, far, detect=True, down=False))] == ["near:1"]
    assert [name for _, _, name, _ in told(seen(registry, near, detect=True, down=False))] == ["base:1"]


def test_the_search_can_be_narrowed_to_models_that_exist(registry: Registry, folder) -> None:
    folder("base", {"model.safetensors": weights(1)})
    folder("elsewhere", {"other.safetensors": weights(1)})
    version = folder("tuned", {"model.safetensors": weights(1, moved=0.1)})

    assert [name for _, _, name, _ in told(seen(registry, version, detect=True, among=("elsewhere",)))] == [
        "elsewhere:1"
    ]
    with pytest.raises(NotFound) as caught:
        seen(registry, version, detect=True, among=("nowhere",))
    assert caught.value.code == "model-not-found"


def test_a_sketch_is_used_instead_of_the_weights(registry: Registry, folder) -> None:
    base = folder("base", {"model.safetensors": weights(1)})
    version = folder("tuned", {"model.safetensors": weights(1, moved=0.1)})
    seen(registry, version, detect=True)
    (entry,) = registry.manifest(base).entries()
    registry.blobs.delete(entry.digest)

    with pytest.raises(NotFound):
        registry.check_present(base, [entry])
    assert [edge.source for edge in seen(registry, version, detect=True).edges] == [Source.DETECTED]


def test_confirming_records_the_edge_with_its_evidence(registry: Registry, folder) -> None:
    base = folder("base", {"model.safetensors": weights(1)})
    version = folder("tuned", {"model.safetensors": weights(1, moved=0.1)})

    edge = confirm(registry, version, base)

    assert edge.relation is Relation.FINETUNED_FROM
    found = seen(registry, version, detect=True)
    assert told(found) == [("tuned:1", "finetuned-from", "base:1", "confirmed")]
    assert found.edges[0].evidence["relative_l2"] == pytest.approx(0.1, abs=0.03)


def test_what_the_weights_do_not_show_is_not_confirmed(registry: Registry, folder) -> None:
    base = folder("base", {"model.safetensors": weights(1)})
    version = folder("other", {"model.safetensors": weights(2)})

    with pytest.raises(Refused) as caught:
        confirm(registry, version, base)

    assert caught.value.code == "not-kin"
    assert seen(registry, version).edges == ()


def test_what_was_denied_is_not_proposed(registry: Registry, folder) -> None:
    folder("base", {"model.safetensors": weights(1)})
    version = folder("tuned", {"model.safetensors": weights(1, moved=0.1)})

    take_back(registry, version, "base", relation="finetuned-from", reason="a common ancestor that is not here")

    assert seen(registry, version, detect=True).edges == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://huggingface.co/Org/Base", "org/base"),
        ("https://huggingface.co/Org/Base/tree/main", "org/base"),
        ("hf://Org/Base", "org/base"),
        ("Org/Base@refs%2Fpr%2F1", "org/base"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("https://example.org/Org/Base", "https://example.org/org/base"),
    ],
)
def test_names_of_a_hub_are_brought_into_the_form_of_names_here(text: str, name: str) -> None:
    assert hub_name(text) == name


def digest(number: int) -> Digest:
    return Digest.of(str(number).encode())


graphs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60).map(
    lambda pairs: [
        Edge(subject=digest(a), relation=Relation.FINETUNED_FROM, name=str(b), manifest=digest(b)) for a, b in pairs
    ]
)


@given(graphs, st.integers(0, 12), st.integers(0, 12))
def test_descendants_are_the_inverse_of_ancestors_in_any_graph_cycles_included(
    edges: list[Edge], one: int, other: int
) -> None:
    graph = Graph(edges)
    a, b = str(digest(one)), str(digest(other))

    assert (b in graph.ancestors(a)) == (a in graph.descendants(b))
    assert graph.ancestors(a).get(b) == graph.descendants(b).get(a)


@given(graphs, st.integers(0, 12))
def test_what_is_found_step_by_step_is_found_at_once(edges: list[Edge], start: int) -> None:
    graph = Graph(edges)
    key = str(digest(start))
    whole = graph.ancestors(key)

    layers = [{at for at, steps in whole.items() if steps == step} for step in range(1, 15)]

    for steps, layer in enumerate(layers, start=1):
        nearer: set[str] = set().union(*layers[: steps - 1])
        before = layers[steps - 2] if steps > 1 else {key}
        assert set(graph.ancestors(key, steps)) == nearer | layer
        assert layer == {edge.target for at in before for edge in graph.up(at)} - nearer
