"""``assay lineage``: the tree, the flowchart, the JSON, and saying, confirming and taking back."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import safetensors

import assay
from assay.pages.mermaid import escaped, mermaid
from assay.settings import Settings
from assay.spec.lineage import Lineage, Node
from assay.spec.records import EventKind
from assay.spec.statement import Statement
from assay.wiring.places import open_registry

TEXT = {"type": "string"}
OPTIONAL = {"type": ["string", "null"]}


def exactly(**fields: object) -> dict[str, object]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def every(schema: object) -> dict[str, object]:
    return {"type": "array", "items": schema}


SCHEMA = exactly(
    reference=TEXT,
    digest=TEXT,
    root=TEXT,
    nodes=every(
        exactly(
            key=TEXT,
            name=TEXT,
            references=every(TEXT),
            run={"type": "boolean"},
            conditions=every(exactly(kind=TEXT, reason=TEXT, reference=OPTIONAL)),
        )
    ),
    edges=every(
        exactly(
            subject=TEXT,
            target=TEXT,
            relation=TEXT,
            name=TEXT,
            reference=OPTIONAL,
            source={"enum": ["given", "files", "detected", "confirmed"]},
            evidence={"type": "object"},
        )
    ),
    warnings=every(TEXT),
    unread={"type": "integer"},
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def made(run, tmp_path: Path):
    """``made(name, *options)``: a version of that name."""
    count = 0

    def do(name: str, *options: object) -> None:
        nonlocal count
        count += 1
        (tmp_path / f"{count}.json").write_text(json.dumps({"threshold": count}))
        status, _, err = run("push", f"./{count}.json", name, *options)
        assert status == 0, err

    return do


@pytest.fixture
def trained(run, tmp_path: Path):
    """``trained(name, moved)``: a network, and the same after more training."""

    def do(name: str, moved: float) -> None:
        start, more = np.random.default_rng(1), np.random.default_rng(2)
        tensors = {
            f"layer.{at}": (start.normal(size=(64, 64)) + moved * more.normal(size=(64, 64))).astype("<f4")
            for at in range(4)
        }
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(safetensors(**{key: ("F32", [64, 64], value.tobytes()) for key, value in tensors.items()}))
        status, _, err = run("push", file, name)
        assert status == 0, err

    return do


def ok(outcome: tuple[int, str, str]) -> str:
    assert outcome[0] == 0, outcome[2]
    return outcome[1]


def tree(out: str) -> str:
    return re.sub(r"sha256:[0-9a-f]{12}", "sha256:…", out)


def test_the_tree_shows_both_ways_with_relation_and_source_of_every_edge(run, made) -> None:
    made("team/base", "--run", "https://runs.example/17")
    made("team/tuned", "--base", "team/base", "--base", "org/Other")
    made("team/small", "--base", "team/tuned:1", "--relation", "quantized-from")

    assert tree(ok(run("lineage", "team/tuned"))) == (
        "team/tuned:1 sha256:…\n"
        "├─ made from\n"
        "│  ├─ merged-from team/base:1 (given)\n"
        "│  │  └─ trained-by https://runs.example/17 (given)\n"
        "│  └─ merged-from org/Other (given, not here)\n"
        "└─ made into\n"
        "   └─ team/small:1 quantized-from it (given)\n"
    )
    assert tree(ok(run("lineage", "team/tuned", "--down"))) == (
        "team/tuned:1 sha256:…\n└─ made into\n   └─ team/small:1 quantized-from it (given)\n"
    )
    assert "trained-by" not in ok(run("lineage", "team/tuned", "--up", "--depth", 1))


def test_a_version_that_came_from_nowhere_says_so(run, made) -> None:
    made("m")

    assert "nothing says what it was made from, nothing here was made from it" in ok(run("lineage", "m"))
    assert "nothing here was made from it" in ok(run("lineage", "m", "--down"))


def test_a_diamond_is_unfolded_once(run, made) -> None:
    made("root", "--run", "r")
    made("base", "--base", "root")
    made("left", "--base", "base")
    made("right", "--base", "base")
    made("merge", "--base", "left", "--base", "right")

    out = ok(run("lineage", "merge"))

    assert out.count("finetuned-from base:1") == 2
    assert out.count("(shown above)") == 1
    assert out.count("finetuned-from root:1") == 1


def test_a_cycle_that_others_said_is_drawn_and_ends(run, made, own_home: Path) -> None:
    made("a")
    made("b", "--base", "a")
    registry = open_registry(Settings(own_home, "tester"))
    first, second = (registry.catalog.version(name, 1) for name in ("a", "b"))
    assert first is not None
    assert second is not None
    body = {"relation": "distilled-from", "name": "b:1", "manifest": str(second.manifest)}
    registry.attach(Statement(first.manifest, "base", body, first.created), registry.manifest(first))

    assert tree(ok(run("lineage", "a", "--up"))) == (
        "a:1 sha256:…\n"
        "└─ made from\n"
        "   └─ distilled-from b:1 (given)\n"
        "      └─ finetuned-from a:1 (given) (the version itself: a cycle)\n"
    )


def test_a_long_line_of_ancestors_is_drawn(run, made, own_home: Path) -> None:
    made("m0")
    for at in range(1, 60):
        made(f"m{at}", "--base", f"m{at - 1}")

    assert len(ok(run("lineage", "m59")).splitlines()) == 61


def test_a_line_too_long_to_draw_says_how_to_go_on(run, made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("assay.cli.lineage"), "_DEEPEST", 3)
    made("m0")
    made("other")
    for at in range(1, 7):
        made(f"m{at}", "--base", f"m{at - 1}", *(("--base", "other") if at == 3 else ()))

    up = ok(run("lineage", "m6")).splitlines()

    assert len(up) == 6
    assert up[-2].endswith("m3:1 (given)")
    assert up[-1] == " " * 12 + "└─ … goes on: assay lineage m3:1 --up"
    assert ok(run("lineage", "m0")).splitlines()[-1].endswith("└─ … goes on: assay lineage m3:1 --down")


def test_a_yanked_ancestor_warns_and_the_exit_status_stays_0(run, made, own_home: Path) -> None:
    made("base")
    made("tuned", "--base", "base")
    registry = open_registry(Settings(own_home, "tester"))
    registry.catalog.mark("base", 1, EventKind.YANKED, reason="leaked\n\x1b[2Jdata", actor="tester")

    status, out, err = run("lineage", "tuned")

    assert status == 0
    assert "finetuned-from base:1 (given)  yanked: leaked \\x1b[2Jdata" in out
    assert "warning: tuned:1 was made from base:1, which is yanked: leaked" in err
    assert "\x1b" not in out + err
    assert "base:1 is yanked, and 1 artifact descends from it" in run("lineage", "base")[2]


def test_a_detected_edge_is_marked_explained_and_recorded_only_when_it_is_confirmed(run, trained) -> None:
    trained("base", 0.0)
    trained("tuned", 0.1)

    status, out, err = run("lineage", "tuned", "--detect")

    assert status == 0
    assert "└─ ? finetuned-from base:1 (detected, not confirmed)" in out
    assert "detected, not confirmed" in err
    assert "tuned:1 finetuned-from base:1: 4 of 4 tensors shared, 0.1" in err
    assert "to confirm: assay lineage tuned:1 --confirm base:1" in err
    assert "base:1" not in ok(run("lineage", "tuned"))
    assert "finetuned-from base:1 (confirmed)" in ok(run("lineage", "tuned:1", "--confirm", "base:1"))
    assert "suggest no base that is not said already" in run("lineage", "tuned", "--detect")[2]


@pytest.mark.parametrize(("moved", "doubtful"), [(0.1, False), (0.9, True)])
def test_what_is_too_far_for_a_fine_tune_is_doubted(run, trained, moved: float, doubtful: bool) -> None:
    trained("base", 0.0)
    trained("tuned", moved)

    err = run("lineage", "tuned", "--detect")[2]

    assert "tuned:1 finetuned-from base:1" in err
    assert ("only began with the same random weights" in err) is doubtful


def test_what_the_weights_do_not_show_is_refused_with_exit_1(run, made, trained) -> None:
    made("base")
    trained("tuned", 0.1)

    status, _, err = run("lineage", "tuned", "--confirm", "base")

    assert status == 1
    assert "--base base:1 records it on your word alone" in err


def test_a_base_is_added_and_taken_back(run, made) -> None:
    made("base")
    made("tuned")

    added = ok(run("lineage", "tuned", "--base", "base", "--relation", "distilled-from"))
    gone = ok(run("lineage", "tuned", "--retract", "base", "--reason", "wrong one"))

    assert "distilled-from base:1 (given)" in added
    assert "base:1" not in gone


@pytest.mark.parametrize(
    "options",
    [
        ["--base", "a", "--confirm", "b"],
        ["--retract", "a"],
        ["--reason", "why"],
        ["--among", "a"],
        ["--mermaid", "--json"],
        ["--depth", "0"],
        ["--base", "a", "--relation", "trained-by"],
    ],
)
def test_what_does_not_go_together_is_mistyped(options: list[str], run, made) -> None:
    made("m")

    assert run("lineage", "m", *options)[0] == 64


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["lineage", "nothing"], "model-not-found"),
        (["lineage", "m", "--relation", "adapter-of"], "invalid-base"),
        (["lineage", "m", "--retract", "x", "--reason", "y"], "edge-not-found"),
        (["lineage", "m", "--base", "m"], "lineage-cycle"),
        (["lineage", "m", "--detect", "--among", "nothing"], "model-not-found"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_exit_2(arguments: list[str], code: str, run, made) -> None:
    made("m")

    status, out, _ = run(*arguments, "--json")

    assert status == 2
    assert json.loads(out)["error"]["code"] == code


def test_the_json_has_exactly_the_documented_fields(run, made, trained, own_home: Path) -> None:
    made("root", "--run", "r")
    trained("base", 0.0)
    trained("tuned", 0.1)
    ok(run("lineage", "base", "--base", "root", "--base", "org/x"))
    open_registry(Settings(own_home, "tester")).catalog.mark("root", 1, EventKind.YANKED, reason="bad", actor="t")

    body = json.loads(ok(run("lineage", "tuned", "--detect", "--json")))

    jsonschema.validate(body, SCHEMA)
    assert [node["name"] for node in body["nodes"]] == ["tuned:1", "base:1", "root:1", "org/x", "r"]
    assert {edge["source"] for edge in body["edges"]} == {"given", "detected"}
    documented = Path(__file__).parents[2].joinpath("docs/reference/json.md").read_text("utf-8")
    section = documented.partition("## Lineage")[2]
    named = {field for part in ("nodes", "edges") for field in body[part][0]} | set(body)
    assert {field for field in named if f"`{field}`" not in section} == set()


def test_the_flowchart_draws_every_node_and_marks_what_is_detected_or_unfit(run, trained, own_home: Path) -> None:
    trained("base", 0.0)
    trained("tuned", 0.1)
    open_registry(Settings(own_home, "tester")).catalog.mark("base", 1, EventKind.YANKED, reason="bad", actor="t")

    assert ok(run("lineage", "tuned", "--detect", "--mermaid")) == (
        "flowchart TD\n"
        '    n0["tuned:1"]\n'
        '    n1["base:1 - yanked"]\n'
        '    n1 -.->|"finetuned-from, detected"| n0\n'
        "    classDef asked stroke-width:3px\n"
        "    class n0 asked\n"
        "    classDef unfit stroke:#c00000,color:#c00000\n"
        "    class n1 unfit\n"
    )


@given(st.text(max_size=200))
def test_no_name_ends_its_label_or_starts_markup(name: str) -> None:
    drawn = mermaid(Lineage(root="k", nodes={"k": Node(key="k", name=name)}, edges=()))

    assert len(drawn.split("\n")) == 4
    assert re.fullmatch(r'    n0\[/"[A-Za-z0-9 .:/_,@+=\-#;]*"/\]', drawn.split("\n")[1])
    assert re.fullmatch(r"(?:[A-Za-z0-9 .:/_,@+=\-]|#\d+;)*", escaped(name))


def test_push_takes_a_relation_and_refuses_one_without_a_base(run, made, tmp_path: Path) -> None:
    made("base")

    status, out, _ = run("push", "./1.json", "m", "--relation", "adapter-of", "--json")

    assert status == 2
    assert json.loads(out)["error"]["code"] == "invalid-base"
    assert run("push", "./1.json", "m", "--base", "base", "--relation", "trained-by")[0] == 64


def test_the_sdk_gives_the_same_and_changes_the_same(trained, made) -> None:
    trained("base", 0.0)
    trained("tuned", 0.1)
    made("other")

    assert [edge.source.value for edge in assay.lineage("tuned", detect=True, among="base").edges] == ["detected"]
    assert assay.confirm_base("tuned", "base").relation.value == "finetuned-from"
    assay.add_base("tuned", ["other"], relation="distilled-from")
    assert [node.name for node in assay.lineage("tuned").ancestors] == ["base:1", "other:1"]
    assert assay.retract_base("tuned", "other", reason="no") == ("distilled-from",)
    assert [node.name for node in assay.lineage("base").descendants] == ["tuned:1"]


def test_the_sdk_pushes_with_several_bases(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")

    version = assay.push("./s.json", "m", base=["org/a", "org/b"])

    edges = assay.lineage(version.reference).edges
    assert [(edge.relation.value, edge.name) for edge in edges] == [("merged-from", "org/a"), ("merged-from", "org/b")]
    with pytest.raises(assay.AssayError, match="no relation"):
        assay.push("./s.json", "m", base="org/a", relation="stolen-from")
    with pytest.raises(assay.AssayError, match="expected text"):
        assay.push("./s.json", "m", base=7)  # type: ignore[arg-type]
