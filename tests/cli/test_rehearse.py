"""``assay rehearse`` and ``assay push --example`` as they are typed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.cli import rehearse as rehearse_command
from assay.cli.main import invoke

pytestmark = [
    pytest.mark.framework,
    pytest.mark.skipif(sys.platform != "linux", reason="a rehearsal is isolated by namespaces, which are Linux's"),
]
TEXT, NUMBER, FLAG, LIST, OBJECT = ({"type": kind} for kind in ("string", "number", "boolean", "array", "object"))
MAYBE = {"type": ["number", "null"]}


def exactly(**fields: dict) -> dict:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


CHECK = exactly(name=TEXT, passed=FLAG, message=TEXT, expected={}, found={})
ENVIRONMENT = exactly(
    python=TEXT, built=FLAG, builder=TEXT, reused=FLAG, requirements=LIST, loader_requirements=LIST, source=TEXT,
    build_seconds=NUMBER, notes=LIST,
)  # fmt: skip
EXAMPLE = exactly(source=TEXT, calls=LIST, compared=NUMBER, max_absolute=MAYBE, max_relative=MAYBE, tolerance=OBJECT)
REHEARSAL = exactly(
    reference=TEXT, digest=TEXT, recorded=FLAG, schema=NUMBER, at=TEXT, passed=FLAG, load_seconds=MAYBE, import_seconds=MAYBE,
    peak_rss=NUMBER, size=NUMBER, example={"anyOf": [EXAMPLE, {"type": "null"}]}, python=TEXT, requirements=LIST,
    environment=ENVIRONMENT, isolation=OBJECT, network=LIST, checks={"type": "array", "items": CHECK, "minItems": 1},
    budget=LIST, tool=exactly(name=TEXT, version=TEXT),
)  # fmt: skip


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pushed(tmp_path: Path) -> None:
    """``m:1``: y = x W as ONNX, with an example from a file."""
    weights = np.arange(6, dtype="float32").reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(weights, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    inputs = np.ones((2, 3), dtype="float32")
    np.savez(tmp_path / "example.npz", **{"inputs.x": inputs, "outputs.y": inputs @ weights})
    assert invoke(["push", "./model.onnx", "m", "--example", "example.npz"]) == 0


def test_the_answer_is_on_standard_output_and_the_story_beside_it(pushed: None, capsys) -> None:
    capsys.readouterr()
    status = invoke(["rehearse", "m", "--environment", sys.executable, "--no-record"])

    told = capsys.readouterr()
    assert status == 0
    assert told.out == "m:1 passed\n"
    assert "ok run answers as recorded: 4 values, all equal" in told.err
    assert "given interpreter, not built" in told.err
    assert "\x1b" not in told.err


def test_a_budget_that_is_not_kept_is_a_no_with_pinned_json(pushed: None, capsys) -> None:
    capsys.readouterr()
    status = invoke(["rehearse", "m", "--environment", sys.executable, "--budget", "size<10B,load<9min", "--json"])

    body = json.loads(capsys.readouterr().out)
    jsonschema.validate(body, REHEARSAL)
    assert status == 1
    assert body["passed"] is False
    assert [check["name"] for check in body["checks"] if not check["passed"]] == ["budget:size"]
    assert invoke(["show", "m", "--json"]) == 0
    kept = [said for said in json.loads(capsys.readouterr().out)["statements"] if said["kind"] == "rehearsal"]
    assert [said["predicate"]["checks"] for said in kept] == [body["checks"]]
    assert invoke(["show", "m"]) == 0
    card = " ".join(capsys.readouterr().out.split())
    assert f"Rehearsed failed on {body['at'][:10]}: over budget: the files have" in card


def test_a_job_that_is_cancelled_ends_as_by_ctrl_c(pushed: None, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def long(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(rehearse_command, "rehearse_version", long)

    assert invoke(["rehearse", "m"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["m", "--budget", "load<20"], 2, "bad-budget"),
        (["m", "--tolerance", "x"], 64, "usage"),
        (["m", "--tolerance", "-1"], 2, "bad-tolerance"),
        (["./model.onnx"], 2, "not-a-version"),
        (["nobody"], 2, "model-not-found"),
        (["m", "--python", "3.99"], 2, "no-python"),
        (["m", "--environment", "nowhere"], 2, "no-python"),
        (["m", "--isolation", "some"], 64, "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_one_error(pushed: None, capsys, arguments: list[str], status: int, code: str) -> None:
    capsys.readouterr()

    assert invoke(["rehearse", *arguments, "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_an_example_that_is_none_stores_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "weights.npz").write_bytes(b"")
    np.savez(tmp_path / "weights.npz", w=np.ones(2))
    (tmp_path / "bad.json").write_text('{"inputs": [1]}')

    assert invoke(["push", "./weights.npz", "m", "--example", "bad.json", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-example"
    assert invoke(["push", "./weights.npz", "m", "--example", "no.json", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "path-not-found"
    assert invoke(["ls", "m"]) == 2
