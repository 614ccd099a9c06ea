"""``assay diff`` for people, for scripts, for pull requests and as a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from model_files import safetensors

import assay
from assay.errors import NotFound
from assay.pages.html import BEGINNING
from assay.spec.changes import Area, Kinship, State

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_labels": 2,
    "hidden_act": "gelu",
    "transformers_version": "4.40.0",
}
Weights = dict[str, np.ndarray]


def weights(seed: int = 0) -> Weights:
    """An embedding, four layers with two matrices each, and a head."""
    random = np.random.default_rng(seed)
    made = {"bert.embeddings.weight": random.normal(size=(64, 32))}
    for layer in range(4):
        made[f"bert.encoder.layer.{layer}.query.weight"] = random.normal(size=(32, 32))
        made[f"bert.encoder.layer.{layer}.value.weight"] = random.normal(size=(32, 32))
    made["classifier.weight"] = random.normal(size=(2, 32))
    return {name: array.astype("float32") for name, array in made.items()}


def save(folder: Path, tensors: Weights, **config: object) -> None:
    folder.mkdir()
    kinds = {"float32": "F32", "float16": "F16"}
    held = {name: (kinds[str(array.dtype)], list(array.shape), array.tobytes()) for name, array in tensors.items()}
    (folder / "model.safetensors").write_bytes(safetensors(**held))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))


@pytest.fixture(autouse=True)
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "old", weights())
    return weights()


@pytest.fixture
def body(run):
    """``body(...)``: exit status and JSON of a diff of ./old and ./new."""

    def do(*options: str, new: str = "./new") -> tuple[int, dict]:
        status, out, _ = run("diff", "./old", new, "--json", *options)
        return status, json.loads(out)

    return do


def shifted(old: Weights, share: float, *names: str) -> Weights:
    """Those whose name holds one of *names* moved by a share of their length."""
    random = np.random.default_rng(7)
    made = dict(old)
    for name, array in old.items():
        if any(part in name for part in names):
            noise = random.normal(size=array.shape)
            made[name] = (array + share * noise * np.linalg.norm(array) / np.linalg.norm(noise)).astype("float32")
    return made


def test_equal_folders_are_identical_and_exit_with_zero(run, old: Weights, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "old", tmp_path / "new")

    status, out, _ = run("diff", "./old", "./new")
    assert status == 0
    assert out.splitlines()[0] == "The same files as old, byte for byte."
    assert "Drop-in replacement: yes" in out
    assert run("diff", "--exact", "./old", "./new")[0] == 0


def test_equal_bytes_that_nobody_understands_can_take_each_others_place(run, tmp_path: Path) -> None:
    for name in ("a.blob", "b.blob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.blob").write_bytes(b"\x00\x01nobody knows this")

    status, out, _ = run("diff", "./a.blob", "./b.blob")
    assert status == 0
    assert "Drop-in replacement: yes\n  - the same bytes" in out


def test_a_newer_librarys_stamp_is_told_and_is_no_change(run, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", old, transformers_version="4.52.1")

    status, out, _ = run("diff", "./old", "./new")
    assert status == 0
    assert "re-released with a newer library" in out
    assert "transformers_version" in out
    assert run("diff", "--exact", "./old", "./new")[0] == 1


def test_a_fine_tune_is_told_with_its_frozen_layers(body, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.2", "layer.3", "classifier"))

    status, found = body()
    assert status == 1
    assert found["kinship"] == "fine-tune"
    assert found["drop_in"]["answer"] == "yes"
    text = " ".join(found["summary"])
    assert "5 of 10 shared tensors moved, typically by 5 %" in text
    assert "embeddings and the first 2 of 4 layers frozen" in text
    assert found["states"] == {"equal": 5, "changed": 5}


def test_a_merged_adapter_is_told_by_its_rank(body, old: Weights, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    new = {
        name: (array + 0.3 * random.normal(size=(32, 4)) @ random.normal(size=(4, 32))).astype("float32")
        if "query" in name
        else array
        for name, array in old.items()
    }
    save(tmp_path / "new", new)

    _, found = body()
    assert found["kinship"] == "adapter"
    assert "Only changes of rank 4, in 4 matrices (query)" in " ".join(found["summary"])
    assert body("--no-ranks")[1]["kinship"] == "fine-tune"


def test_a_cast_is_told_with_the_error_of_rounding(body, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", {name: array.astype("float16") for name, array in old.items()})

    status, found = body()
    assert (status, found["kinship"], found["drop_in"]["answer"]) == (1, "recast", "yes")
    assert "went from float32 to float16" in " ".join(found["summary"])


def test_weights_that_became_nan_are_no_drop_in_replacement(body, old: Weights, tmp_path: Path) -> None:
    spoiled = dict(old)
    spoiled["classifier.weight"] = old["classifier.weight"].copy()
    spoiled["classifier.weight"][1, 5] = np.nan
    save(tmp_path / "new", spoiled)

    status, found = body()
    assert status == 1
    assert found["drop_in"] == {"answer": "no", "reasons": ["NaN or infinite weights appeared in classifier.weight"]}
    assert "1 weight is NaN or infinite now, in classifier.weight." in found["summary"]


def test_another_number_of_outputs_is_no_drop_in_replacement(body, old: Weights, tmp_path: Path) -> None:
    new = {**old, "classifier.weight": np.zeros((3, 32), "float32")}
    save(tmp_path / "new", new, num_labels=3)

    _, found = body()
    assert found["drop_in"]["answer"] == "no"
    assert any("num_labels 2 → 3" in reason or "3" in reason for reason in found["drop_in"]["reasons"])


def test_names_and_shapes_alone_never_claim_that_elements_are_equal(body, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.3"))

    status, found = body("--no-tensors")
    assert status == 2
    assert found["kinship"] == "same-architecture"
    assert found["complete"] is False
    assert "were not compared" in " ".join(found["summary"])


TEXT, NUMBER, FLAG, LIST, OBJECT = ({"type": kind} for kind in ("string", "integer", "boolean", "array", "object"))


def exactly(optional: tuple[str, ...] = (), **fields: dict) -> dict:
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def maybe(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


FLOAT = {"type": "number"}
SPEC = exactly(name=TEXT, dtype=TEXT, shape={"type": "array", "items": NUMBER})
SIDE = exactly(
    label=TEXT, digest=maybe(TEXT), reference=maybe(TEXT), format=TEXT, framework=maybe(TEXT),
    framework_version=maybe(TEXT), architecture=maybe(TEXT), parameters=maybe(NUMBER), tensors=NUMBER, size=NUMBER,
    files=NUMBER, dtypes=OBJECT,
)  # fmt: skip
NUMBERS = exactly(
    ("cast_error", "rank"),
    relative_l2=maybe(FLOAT), max_abs=FLOAT, cosine=maybe(FLOAT), changed_fraction=FLOAT, difference_norm=FLOAT,
    old_norm=FLOAT, new_norm=FLOAT, old_mean=FLOAT, new_mean=FLOAT, old_std=FLOAT, new_std=FLOAT,
    old_nonfinite=NUMBER, new_nonfinite=NUMBER, cast_error=FLOAT, rank=NUMBER,
)  # fmt: skip
EFFECT = {"enum": ["behaviour", "note"]}
DIFF = exactly(
    schema={"const": 1},
    old=SIDE,
    new=SIDE,
    kinship={"enum": [kin.value for kin in Kinship]},
    summary={"type": "array", "items": TEXT, "minItems": 2, "maxItems": 6},
    drop_in=exactly(answer={"enum": ["yes", "no", "unknown"]}, reasons={"type": "array", "items": TEXT, "minItems": 1}),
    equal_bytes=FLAG,
    behaves_differently=FLAG,
    complete=FLAG,
    states={"type": "object", "propertyNames": {"enum": [state.value for state in State]}},
    groups={
        "type": "array",
        "minItems": 1,
        "items": exactly(
            name=TEXT,
            tensors=OBJECT,
            parameters=NUMBER,
            relative_l2=maybe(FLOAT),
            ranks={"type": "array", "items": NUMBER},
            frozen=FLAG,
        ),
    },
    tensors={
        "type": "array",
        "minItems": 1,
        "items": exactly(
            ("old", "new", "match", "transform", "numbers", "shared", "reason"),
            name=TEXT, state=TEXT, effect=EFFECT, old=SPEC, new=SPEC,
            match={"enum": ["name", "renamed", "content"]}, transform=TEXT, numbers=NUMBERS, shared=LIST, reason=TEXT,
        ),
    },
    items={
        "type": "array",
        "minItems": 1,
        "items": exactly(
            ("text", "why"),
            area={"enum": [area.value for area in Area]}, path=TEXT, kind={"enum": ["added", "removed", "changed"]},
            effect=EFFECT, old={}, new={}, text=TEXT, why=TEXT,
        ),
    },
    findings=LIST,
    histograms=LIST,
)  # fmt: skip


def test_the_json_has_the_documented_fields_and_no_others(body, old: Weights, tmp_path: Path) -> None:
    new = {name: array for name, array in shifted(old, 0.05, "layer.3").items() if "classifier" not in name}
    save(tmp_path / "new", {**new, "extra.weight": np.ones((4, 4), "float32")}, hidden_act="relu")

    _, found = body()
    jsonschema.validate(found, DIFF)
    documented = (Path(__file__).parents[2] / "docs/reference/json.md").read_text("utf-8")
    for field in (*DIFF["properties"], *NUMBERS["properties"], *SIDE["properties"]):
        assert f"`{field}`" in documented, field


def test_numbers_that_json_cannot_say_are_null(run, tmp_path: Path) -> None:
    for name, value in (("zero", 0), ("one", 1)):
        save(tmp_path / name, {"w.weight": np.full((8, 8), value, "float32")})

    status, out, _ = run("diff", "./zero", "./one", "--json")
    (tensor,) = json.loads(out)["tensors"]
    assert status == 1
    assert tensor["numbers"]["relative_l2"] is None
    assert "Infinity" not in out


def test_versions_paths_and_layouts_can_be_compared_with_each_other(run, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.3"))
    for folder in ("./old", "./new"):
        assert run("push", folder, "team/text")[0] == 0
    assert run("copy", "team/text:2", "oci:./layout:v2")[0] == 0

    assert "Fine-tune of version 1" in run("diff", "team/text:1", "team/text:2")[1]
    for new in ("./new", "oci:./layout:v2", "team/text"):
        status, out, _ = run("diff", "team/text:1", new)
        assert status == 1
        assert "2 of 10 shared tensors moved, typically by 5 %" in " ".join(out.split())
    assert run("diff", "oci:./layout:v2", "./new")[0] == 0


def test_the_summary_comes_first_and_the_decision_next(run, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.1, "layer.3"), hidden_act="relu")

    _, out, err = run("diff", "./old", "./new")
    lines = out.splitlines()
    assert lines[0].startswith("Fine-tune of old: the same architecture")
    assert out.index("Drop-in replacement: yes") < out.index("Layers") < out.index("Tensors") < out.index("Settings")
    assert "hidden_act  gelu → relu" in out
    assert re.search(r"encoder\.layer 0-3 +···▓", out)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in out
    assert err == ""


def test_a_narrow_terminal_still_reads(run, old: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "new", shifted(old, 0.1, "layer.3"), hidden_act="relu")
    monkeypatch.setattr("assay.cli.console.answers", lambda: _narrow(44))
    monkeypatch.setattr("assay.cli.diff_text.answers", lambda: _narrow(44))

    status, out, _ = run("diff", "./old", "./new")
    assert status == 1
    assert max(map(len, out.splitlines())) <= 44
    assert "···▓" in out


def _narrow(width: int):
    from io import StringIO

    from rich.console import Console

    return Console(file=StringIO(), width=width, highlight=False, markup=False, emoji=False)


def test_foreign_text_steers_no_terminal(run, old: Weights, tmp_path: Path) -> None:
    evil = "x\x1b[2J\u202ey.weight"
    save(tmp_path / "new", {**old, evil: np.ones((4, 4), "float32")}, hidden_act="\x1b]0;owned\x07")

    for options in ([], ["--tensors"], ["--markdown"]):
        _, out, _ = run("diff", "./old", "./new", *options)
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", out)


def test_all_tensors_are_listed_when_asked(run, tmp_path: Path) -> None:
    many = {f"part{at}.weight": np.full((4, 4), at + 1.0, "float32") for at in range(30)}
    save(tmp_path / "a", many)
    save(tmp_path / "b", {name: array * 1.1 for name, array in many.items()})

    few, every = run("diff", "./a", "./b")[1], run("diff", "./a", "./b", "--tensors")[1]
    assert "and 18 more (--tensors lists all)" in few
    assert all(f"part{at}.weight" in every for at in range(30))


def test_markdown_is_for_pull_requests(run, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.3"))

    status, out, _ = run("diff", "./old", "./new", "--markdown")
    assert status == 1
    assert out.startswith("### Model diff: `./old` → `./new`\n\nFine-tune of old")
    assert "**Drop-in replacement: yes**" in out


def test_a_page_with_plots_is_written_whole_beside_any_other_form(run, old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.3"))
    file = tmp_path / "page.html"

    for form in ([], ["--json"], ["--markdown"]):
        status, _, err = run("diff", "./old", "./new", "--html", "page.html", *form)
        assert status == 1
        assert err == "written to page.html\n"
    text = file.read_text("utf-8")
    assert text.startswith(BEGINNING)
    assert text.count("<figure>") >= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "page.html"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize(
    ("arguments", "status", "code", "hint"),
    [
        (["./old", "./nowhere"], 2, "path-not-found", None),
        (["./old", "old"], 2, "home-missing", None),
        (["-", "./old"], 2, "stdin-not-supported", "write it to a file first"),
        (["", "./old"], 64, "usage", None),
        (["./old"], 64, "usage", None),
        (["./old", "./old", "--markdown"], 64, "usage", None),
        (["./old", "./old", "--html", "old/config.json"], 2, "file-exists", "choose another name, or remove it"),
        (["./old", "./old", "--html", "old"], 2, "file-exists", "--html old/diff.html"),
        (["./old", "./old", "--html", "no/such/page.html"], 2, "storage", "mkdir -p no/such"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_to_type(run, tmp_path: Path, arguments, status, code, hint) -> None:
    before = (tmp_path / "old/config.json").read_bytes()

    found, out, _ = run("diff", *arguments, "--json")
    error = json.loads(out)["error"]
    assert (found, error["code"]) == (status, code)
    assert hint is None or error["hint"] == hint
    assert (tmp_path / "old/config.json").read_bytes() == before


def test_a_path_without_its_dot_is_named_in_the_hint(run, old: Weights, tmp_path: Path) -> None:
    run("push", "./old", "text")

    status, _, err = run("diff", "text", "old")
    assert status == 2
    assert "./old means the file or folder of that name here" in err


def test_the_sdk_gives_the_same_answer_and_draws_itself(old: Weights, tmp_path: Path) -> None:
    save(tmp_path / "new", shifted(old, 0.05, "layer.3"))

    found = assay.diff(Path("old"), "./new", histograms=True)
    assert found.kinship == "fine-tune"
    assert found.behaves_differently
    assert str(found) == " ".join(found.summary)
    assert found.to_json()["summary"] == list(found.summary)
    assert found._repr_markdown_() == found.markdown()
    assert found.html().startswith(BEGINNING)
    assert found.histograms
    with pytest.raises(NotFound):
        assay.diff("./old", "./nowhere")
