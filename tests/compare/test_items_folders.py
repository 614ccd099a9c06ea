"""Folders of settings, tokenizers, requirements and other files: each change at its place, with its effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from item_diffs import NEVER, behaviours, items_between, notes

from assay.compare.gathering import Gathered
from assay.compare.items import compare_items
from assay.compare.requirements import compare_lists, named
from assay.compare.roles import decided
from assay.compare.sides import Options
from assay.compare.signatures import compare_ports
from assay.compare.tokenizers import compare_merges, compare_vocabularies
from assay.spec.changes import Area, Effect, Item, ItemKind
from assay.spec.description import Port
from assay.wiring.comparing import open_side

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(20))]
TOKENIZER = {
    "version": "1.0",
    "normalizer": {"type": "BertNormalizer", "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {token: at for at, token in enumerate(VOCABULARY)}},
}
MLMODEL = """artifact_path: model
flavors:
  python_function:
    loader_module: mlflow.sklearn
    python_version: 3.11.7
  sklearn:
    pickled_model: model.pkl
    sklearn_version: 1.9.0
mlflow_version: 3.1.0
model_uuid: 8ee5e56dc3f44ec6a38b0f4b35a4a9d6
run_id: 0123456789abcdef0123456789abcdef
signature:
  inputs: '[{"type": "double", "name": "x"}]'
utc_time_created: '2026-01-01 10:00:00.000000'
"""
FILES: dict[str, Any] = {
    "config.json": {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "transformers_version": "4.50.0",
        "_name_or_path": "./old",
        "id2label": {"0": "no", "1": "yes"},
    },
    "generation_config.json": {"temperature": 0.7, "transformers_version": "4.50.0"},
    "preprocessor_config.json": {"image_mean": [0.5, 0.5, 0.5], "size": {"height": 224}},
    "tokenizer_config.json": {"do_lower_case": True, "name_or_path": "./old", "chat_template": "{{ a }}\n{{ b }}"},
    "tokenizer.json": TOKENIZER,
    "requirements.txt": "torch==2.1.0\nnumpy==1.26.0\ntqdm==4.0.0\n",
    "MLmodel": MLMODEL,
    "settings.toml": "[run]\nbatch = 4\nwhen = 2026-01-01\n",
    "README.md": "# About\n",
    "LICENSE": "MIT\n",
    "modeling.py": "def f(x):\n    return x\n",
    "labels.txt": "cat\ndog\n",
    "blob.xyz": b"\0\1\2",
    "optimizer.pt": b"\0\1\2",
    "trainer_state.json": {"epoch": 1},
}


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def put(name: str, *keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(files: dict[str, Any]) -> None:
        body = files[name]
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = value

    return edit


def text(name: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def edit(files: dict[str, Any]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return edit


def told(tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> list[Item]:
    files = json.loads(json.dumps({name: body for name, body in FILES.items() if not isinstance(body, bytes)}))
    files |= {name: body for name, body in FILES.items() if isinstance(body, bytes)}
    old = write(tmp_path / "old", files)
    edit(files)
    return [item for item in items_between(old, write(tmp_path / "new", files)) if item.path != "size"]


@pytest.mark.parametrize(
    ("edit", "area", "place"),
    [
        (put("config.json", "hidden_act", value="relu"), Area.CONFIG, "config.json: hidden_act"),
        (put("config.json", "architectures", value=["RobertaModel"]), Area.ARCHITECTURE, "config.json: architectures"),
        (put("config.json", "id2label", "1", value="maybe"), Area.CONFIG, "config.json: id2label.1"),
        (put("config.json", "new_setting", value=1), Area.CONFIG, "config.json: new_setting"),
        (
            put("generation_config.json", "temperature", value=0.9),
            Area.GENERATION,
            "generation_config.json: temperature",
        ),
        (
            put("preprocessor_config.json", "size", "height", value=256),
            Area.PREPROCESSING,
            "preprocessor_config.json: size.height",
        ),
        (
            put("tokenizer_config.json", "do_lower_case", value=False),
            Area.TOKENIZER,
            "tokenizer_config.json: do_lower_case",
        ),
        (
            put("tokenizer_config.json", "chat_template", value="{{ a }}\n{{ c }}"),
            Area.TOKENIZER,
            "tokenizer_config.json: chat_template",
        ),
        (
            put("tokenizer.json", "normalizer", "lowercase", value=False),
            Area.TOKENIZER,
            "tokenizer.json: normalizer.lowercase",
        ),
        (put("tokenizer.json", "model", "vocab", "word3", value=99), Area.TOKENIZER, "tokenizer.json: vocabulary"),
        (text("requirements.txt", "torch==2.1.0", "torch==3.0.0"), Area.DEPENDENCIES, "requirements.txt: torch"),
        (text("requirements.txt", "tqdm==4.0.0\n", ""), Area.DEPENDENCIES, "requirements.txt: tqdm"),
        (text("MLmodel", '"double"', '"float"'), Area.SIGNATURE, "MLmodel: signature.inputs"),
        (text("MLmodel", "mlflow.sklearn", "evil"), Area.CONFIG, "MLmodel: flavors.python_function.loader_module"),
        (text("settings.toml", "batch = 4", "batch = 5"), Area.CONFIG, "settings.toml: run.batch"),
        (text("modeling.py", "return x", "return -x"), Area.CODE, "modeling.py"),
        (text("labels.txt", "cat", "cow"), Area.CONFIG, "labels.txt"),
        (lambda files: files.update({"blob.xyz": b"\0\1\3"}), Area.FILES, "blob.xyz"),
        (lambda files: files.update({"more.xyz": b"\0"}), Area.FILES, "more.xyz"),
        (lambda files: files.pop("labels.txt"), Area.CONFIG, "labels.txt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_edit_is_one_difference_that_can_change_behaviour(tmp_path, edit, area: Area, place: str) -> None:
    found = told(tmp_path, edit)

    assert (area, place) in behaviours(found)
    assert {path.partition(": ")[0] for _, path in behaviours(found)} <= {place.partition(": ")[0], "inputs", "outputs"}


@pytest.mark.parametrize(
    ("edit", "area"),
    [
        (put("config.json", "transformers_version", value="5.0.0"), Area.DEPENDENCIES),
        (put("config.json", "_name_or_path", value="./new"), Area.METADATA),
        (put("generation_config.json", "transformers_version", value="5.0.0"), Area.DEPENDENCIES),
        (put("tokenizer_config.json", "name_or_path", value="./new"), Area.METADATA),
        (text("requirements.txt", "torch==2.1.0", "torch==2.2.0"), Area.DEPENDENCIES),
        (text("requirements.txt", "tqdm==4.0.0", "tqdm==5.0.0"), Area.DEPENDENCIES),
        (text("requirements.txt", "torch==2.1.0\nnumpy==1.26.0", "numpy == 1.26.0\nTorch==2.1.0"), Area.DEPENDENCIES),
        (text("MLmodel", "run_id: 0123", "run_id: ff23"), Area.METADATA),
        (text("MLmodel", "10:00:00", "11:00:00"), Area.METADATA),
        (text("MLmodel", "sklearn_version: 1.9.0", "sklearn_version: 1.9.1"), Area.DEPENDENCIES),
        (text("README.md", "About", "More about"), Area.METADATA),
        (text("LICENSE", "MIT", "Apache-2.0"), Area.LICENCE),
        (put("trainer_state.json", "epoch", value=2), Area.PARAMS),
        (put("config.json", "hidden_dropout_prob", value=0.2), Area.PARAMS),
        (put("config.json", "initializer_range", value=0.1), Area.PARAMS),
        (text("settings.toml", "batch = 4", "batch   =   4"), Area.CONFIG),
    ],
    ids=[
        "library", "path", "library-of-generation", "path-of-tokenizer", "minor-version", "major-of-no-framework",
        "requirements-rewritten", "run", "time", "flavour-version", "readme", "licence", "trainer", "spacing",
        "dropout", "how-weights-began",
    ],
)  # fmt: skip
def test_noise_is_told_as_a_note_with_its_reason(tmp_path, edit, area: Area) -> None:
    found = told(tmp_path, edit)

    assert behaviours(found) == []
    assert [item.area for item in found] == [area]
    assert found[0].why


@pytest.mark.parametrize(
    ("key", "value"),
    [("created", 12), ("timestamp_layers", 3), ("sha", "conv"), ("torch_version", {"a": 1}), ("version", "2")],
)
def test_a_name_that_sounds_like_noise_and_holds_something_else_counts(tmp_path, key: str, value: Any) -> None:
    old = write(tmp_path / "old", {"settings.json": {key: 7}})
    new = write(tmp_path / "new", {"settings.json": {key: value}})

    assert behaviours(items_between(old, new)) == [(Area.CONFIG, f"settings.json: {key}")]


def test_a_template_is_told_as_a_text_difference(tmp_path) -> None:
    found = told(tmp_path, put("tokenizer_config.json", "chat_template", value="{{ a }}\n{{ c }}"))

    assert found[0].text is not None
    assert "-{{ b }}\n+{{ c }}" in found[0].text


def test_the_same_vocabulary_in_another_file_is_a_note(tmp_path) -> None:
    lines = "\n".join(VOCABULARY) + "\n"
    old = write(tmp_path / "old", {"vocab.txt": lines})
    same = write(tmp_path / "same", {"tokenizer.json": TOKENIZER})
    other = write(tmp_path / "other", {"tokenizer.json": {**TOKENIZER, "model": {"vocab": {"a": 0}}}})

    assert [item for item in items_between(old, same) if item.effect is Effect.BEHAVIOUR] == []
    assert {area for area, _ in behaviours(items_between(old, other))} == {Area.TOKENIZER}


def test_a_json_document_with_repeated_keys_is_not_taken_for_the_same(tmp_path) -> None:
    old = write(tmp_path / "old", {"settings.json": '{"a": 1}'})
    new = write(tmp_path / "new", {"settings.json": '{"a": 2, "a": 1}'})

    assert [area for area, _ in behaviours(items_between(old, new))] == [Area.CONFIG]


def test_a_document_that_cannot_be_read_counts_and_leaves_a_finding(tmp_path) -> None:
    sides = [
        open_side(str(write(tmp_path / name, {"settings.json": body})), NEVER)
        for name, body in (("old", '{"a": 1}'), ("new", '{"a": 1'))
    ]

    items, findings = compare_items(sides[0], sides[1], Options(audit=False))

    assert [item.effect for item in items if item.path != "size"] == [Effect.BEHAVIOUR]
    assert [(finding.rule, finding.severity.value) for finding in findings] == [("diff-unread", "incomplete")]


def test_a_single_file_may_be_called_otherwise_and_one_of_many_may_not(tmp_path) -> None:
    alone = [write(tmp_path / name, {file: b"\0same"}) for name, file in (("a", "one.xyz"), ("b", "two.xyz"))]
    among = [
        write(tmp_path / name, {file: b"\0same", "config.json": "{}"})
        for name, file in (("c", "one.xyz"), ("d", "two.xyz"))
    ]

    assert behaviours(items_between(*alone)) == []
    assert behaviours(items_between(*among)) == [(Area.FILES, "two.xyz")]


def test_many_like_changes_are_told_as_one(tmp_path) -> None:
    old = write(tmp_path / "old", {"settings.json": {"table": {str(at): at for at in range(500)}}})
    new = write(tmp_path / "new", {"settings.json": {"table": {str(at): at + 1 for at in range(500)}}})

    found = [item for item in items_between(old, new) if item.path != "size"]

    assert [(item.path, item.kind) for item in found] == [("settings.json: table", ItemKind.CHANGED)]
    assert found[0].text is not None
    assert found[0].text.startswith("500 changed")


def test_findings_of_harm_that_are_gained_can_change_behaviour(tmp_path) -> None:
    harmless = b"\x80\x04}\x94."
    harmful = b"cos\nsystem\n(S'true'\ntR."
    old = write(tmp_path / "old", {"m.pkl": harmless})
    new = write(tmp_path / "new", {"m.pkl": harmful})

    gained = [item for item in items_between(old, new, audit=True) if item.area is Area.AUDIT]
    lost = [item for item in items_between(new, old, audit=True) if item.area is Area.AUDIT]

    assert any(item.kind is ItemKind.ADDED and item.effect is Effect.BEHAVIOUR for item in gained)
    assert all(item.effect is Effect.NOTE for item in lost)
    assert [item for item in items_between(old, new) if item.area is Area.AUDIT] == []


@given(
    st.dictionaries(st.text(max_size=4), st.integers(0, 50), max_size=12),
    st.dictionaries(st.text(max_size=4), st.integers(0, 50), max_size=12),
)
def test_vocabularies_differ_when_and_only_when_they_do(old: dict[str, int], new: dict[str, int]) -> None:
    gathered = Gathered()

    assert compare_vocabularies(gathered, old, new, "v") == (old != new)
    assert len(gathered.items) == (old != new)
    for item in gathered.items:
        assert item.text is not None
        assert ("added" in item.text) == bool(new.keys() - old.keys())
        assert ("removed" in item.text) == bool(old.keys() - new.keys())
        assert ("renumbered" in item.text) == any(old[key] != new[key] for key in old.keys() & new.keys())


@given(st.lists(st.text(max_size=3), max_size=8, unique=True), st.lists(st.text(max_size=3), max_size=8, unique=True))
def test_merges_differ_when_and_only_when_they_do(old: list[str], new: list[str]) -> None:
    assert compare_merges(Gathered(), old, new, "m") == (old != new)


@pytest.mark.parametrize(
    ("old", "new", "effect", "text"),
    [
        (Port("x", "float32", ("N", 3)), Port("x", "float32", ("M", 3)), Effect.NOTE, None),
        (
            Port("x", "float32", (1, 3)),
            Port("x", "float32", (None, 3)),
            Effect.BEHAVIOUR,
            "wider: it takes more than before",
        ),
        (Port("x", "float32", (None, 3)), Port("x", "float32", (1, 3)), Effect.BEHAVIOUR, None),
        (Port("x", "float32", (1, 3)), Port("x", "float64", (1, 3)), Effect.BEHAVIOUR, None),
        (Port("x", "float32", ("N", "M")), Port("x", "float32", ("N", "N")), Effect.BEHAVIOUR, None),
        (Port("x", "float32", (1, 3)), Port("y", "float32", (1, 3)), Effect.BEHAVIOUR, None),
    ],
    ids=["other-name-of-a-free-size", "wider", "narrower", "dtype", "two-sizes-become-one", "another-name"],
)
def test_ports_are_compared_by_name_type_and_sizes(old: Port, new: Port, effect: Effect, text: str | None) -> None:
    gathered = Gathered()

    compare_ports(gathered, [old], [new], "inputs")

    assert {item.effect for item in gathered.items} == {effect}
    assert {item.text for item in gathered.items if item.kind is ItemKind.CHANGED} <= {text}


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        (["torch==2.1"], ["torch==2.9"], Effect.NOTE),
        (["torch==2.1"], ["torch==3.0"], Effect.BEHAVIOUR),
        (["torch>=2"], ["torch>=3"], Effect.BEHAVIOUR),
        (["tqdm==1"], ["tqdm==2"], Effect.NOTE),
        (["python=3.10"], ["python=3.11"], Effect.NOTE),
        (["torch"], ["torch", "flash-attn"], Effect.BEHAVIOUR),
        (["torch", "joblib"], ["torch"], Effect.NOTE),
    ],
)
def test_requirements_are_judged_by_name_and_step(old: list[str], new: list[str], effect: Effect) -> None:
    gathered = Gathered()

    compare_lists(gathered, named(old), named(new), "requirements")

    assert [item.effect for item in gathered.items] == [effect]


@pytest.mark.parametrize(
    "path",
    [
        "model.safetensors",
        "config.json",
        "license.py",
        "notice.json",
        "readme.bin",
        "prompt.md",
        "vocab.txt",
        "a/weights.pkl",
    ],
)
def test_no_file_that_a_model_may_need_is_noise_by_its_name(path: str) -> None:
    assert decided(path) is None


def test_notes_say_why(tmp_path) -> None:
    def everything(files: dict[str, Any]) -> None:
        files["README.md"] = "other"
        files["LICENSE"] = "other"
        files["optimizer.pt"] = b"other"

    found = told(tmp_path, everything)

    assert len(notes(found)) == 3
    assert all(item.why for item in found)
