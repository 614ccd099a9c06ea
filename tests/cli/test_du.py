"""``du`` on the command line: what it draws, what it counts, and the JSON of it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

TEXT, NUMBER, LIST, FLAG = ({"type": kind} for kind in ("string", "integer", "array", "boolean"))


def exactly(**fields: dict) -> dict:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


COUNTED = dict(logical=NUMBER, stored=NUMBER, statements=NUMBER, exclusive=NUMBER, packed=NUMBER, shared_with=LIST)
VERSION = exactly(reference=TEXT, digest=TEXT, **COUNTED)
MODEL = exactly(name=TEXT, **COUNTED, versions={"type": "array", "items": VERSION})
FOLDER = exactly(name=TEXT, bytes=NUMBER, frees={"type": ["string", "null"]}, note=TEXT)
PACKS = exactly(packs=NUMBER, blobs=NUMBER, raw=NUMBER, stored=NUMBER, dead=NUMBER)
ALL = exactly(
    logical=NUMBER, stored=NUMBER, blobs=NUMBER, statements=NUMBER, garbage=NUMBER, total=NUMBER, disk_free=NUMBER,
    models={"type": "array", "items": MODEL}, folders={"type": "array", "items": FOLDER},
    packed=NUMBER, packs={"anyOf": [{"type": "null"}, PACKS]},
)  # fmt: skip
FILE = exactly(path=TEXT, bytes=NUMBER, packed=FLAG, shared_with=LIST)
ONE = exactly(**VERSION["properties"], files={"type": "array", "items": FILE})


@pytest.fixture(autouse=True)
def two_models(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with two models that share a large file."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/large.txt").write_text("x" * 100_000)
    for number, name in enumerate(("team/a", "team/a", "b"), 1):
        (tmp_path / "model/small.txt").write_text(f"{number}" * 30_000)
        assert run("push", "./model", name)[0] == 0


def answer(outcome: tuple[int, str, str], schema: dict) -> dict:
    assert outcome[0] == 0, outcome[2]
    body = json.loads(outcome[1])
    jsonschema.validate(body, schema)
    return body


def test_all_models_the_largest_first_and_what_lies_beside_them(run, tmp_path: Path) -> None:
    body = answer(run("du", "--json"), ALL)

    assert [model["name"] for model in body["models"]] == ["team/a", "b"]
    assert body["models"][0]["logical"] == 260_000
    assert 160_000 < body["models"][0]["stored"] < 170_000
    assert body["models"][0]["shared_with"] == ["b"]
    assert 60_000 < body["models"][0]["exclusive"] < 75_000
    blobs = [path.stat().st_size for path in (tmp_path / "home/blobs/sha256").iterdir()]
    assert (body["stored"], body["blobs"], body["garbage"]) == (sum(blobs), len(blobs), 0)
    every = sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert abs(body["total"] - every) < 40_000  # SQLite's shared memory comes and goes
    assert [model["name"] for model in answer(run("du", "--top", "1", "--json"), ALL)["models"]] == ["team/a"]


def test_the_tables_fit_80_columns_and_draw_bars(run) -> None:
    for arguments in (("du",), ("du", "team/a"), ("du", "team/a:1"), ("du", "--top", "1")):
        status, out, err = run(*arguments)
        assert status == 0
        assert max(map(len, out.splitlines())) <= 80, arguments
        assert "░" in out
        assert "█" in out or arguments == ("du", "team/a:1")
        assert err
    assert "1 smaller model left out" in run("du", "--top", "1")[2]


def test_one_model_and_one_version(run) -> None:
    model = answer(run("du", "team/a", "--json"), MODEL)
    version = answer(run("du", "team/a:1", "--json"), ONE)

    assert [one["reference"] for one in model["versions"]] == ["team/a:2", "team/a:1"]
    assert {key: value for key, value in version.items() if key != "files"} == model["versions"][1]
    assert version["files"] == [
        {"path": "large.txt", "bytes": 100_000, "packed": False, "shared_with": ["b:1", "team/a:2"]},
        {"path": "small.txt", "bytes": 30_000, "packed": False, "shared_with": []},
    ]
    assert 30_000 < version["exclusive"] < 40_000


def test_garbage_is_told_with_what_frees_it(run) -> None:
    exclusive = answer(run("du", "team/a:1", "--json"), ONE)["exclusive"]
    run("remove", "team/a:1", "--reason", "old", "--yes")

    assert answer(run("du", "--json"), ALL)["garbage"] == exclusive
    assert "assay gc --yes" in run("du")[1]


def test_a_model_that_takes_nothing_any_more_says_so(run) -> None:
    run("remove", "b:1", "--reason", "old", "--yes")

    status, out, _ = run("du", "b", "--json")

    assert (status, json.loads(out)["error"]["code"]) == (2, "version-removed")
    assert "b" not in [model["name"] for model in answer(run("du", "--json"), ALL)["models"]]
    assert run("du", "nobody")[0] == 2


def test_every_field_of_the_json_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()
    names = {*ALL["properties"], *MODEL["properties"], *ONE["properties"], *FOLDER["properties"], *FILE["properties"]}
    assert {name for name in names if f"`{name}`" not in page} == set()
