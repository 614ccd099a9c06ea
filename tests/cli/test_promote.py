"""``promote``, ``rollback``, ``unalias``, ``approve`` and ``yank`` as people and programs type them."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from model_files import safetensors

import assay
from assay.cli.main import main
from assay.errors import Refused

TEXT, NUMBER, FLAG, LIST = ({"type": kind} for kind in ("string", "integer", "boolean", "array"))
DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}


def exactly(optional: tuple[str, ...] = (), **fields: dict) -> dict:
    return {
        "type": "object",
        "properties": fields,
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def or_null(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


GATE = exactly(
    ("advice", "evidence"), gate=TEXT, source=TEXT, state={"enum": ["passed", "failed", "missing"]}, expected=TEXT,
    found=TEXT, advice=TEXT, evidence={"type": "object"},
)  # fmt: skip
PLAN = {
    "reference": TEXT, "name": TEXT, "version": NUMBER, "digest": DIGEST, "alias": TEXT, "reason": TEXT,
    "gates": {"type": "array", "items": GATE}, "override": or_null(exactly(reason=TEXT, gates=LIST)),
    "from": or_null(NUMBER),
}  # fmt: skip
MOVED = exactly(**PLAN, moved=FLAG, dry_run=FLAG)

RULES = """
[[promotion]]
alias = "champion"
max_size = "1 kB"
approvals = 1
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "ada")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def push(run, tmp_path: Path):
    """``push(seed)``: a version of ``m``."""

    def do(seed: int, *options: str) -> tuple[int, str, str]:
        (tmp_path / "w.safetensors").write_bytes(safetensors(w=("F32", [1], struct.pack("<f", seed))))
        return run("push", tmp_path / "w.safetensors", "m", *options)

    return do


def ok(outcome: tuple[int, str, str]) -> str:
    assert outcome[0] == 0, outcome[2]
    return outcome[1]


def printed(outcome: tuple[int, str, str], schema: dict) -> dict:
    body = json.loads(ok(outcome))
    jsonschema.validate(body, schema)
    return body


def test_promote_prints_every_gate_and_where_the_alias_points_now(run, push, own_home: Path) -> None:
    push(1)
    (own_home / "promotion.toml").write_text(RULES.replace("approvals = 1", ""))

    out = ok(run("promote", "m:1", "champion", "--reason", "the first"))

    assert [line.split()[:2] for line in out.splitlines()[1:] if line.startswith("passed")] == [
        ["passed", "safety"],
        ["passed", "size"],
    ]
    assert out.splitlines()[-1] == "m:champion -> m:1"
    assert "alias champion promoted to 1: the first" in ok(run("history", "m"))


def test_a_refused_promotion_exits_1_names_its_gates_and_changes_nothing(run, push, own_home: Path) -> None:
    push(1)
    push(2)
    ok(run("promote", "m:1", "champion"))
    (own_home / "promotion.toml").write_text(RULES)

    status, out, err = run("promote", "m:2", "champion")
    assert status == 1
    assert "missing  approvals" in out
    assert "approvals: expected 1 person other than ada, who pushed it, found missing: nobody" in err
    assert "hint: assay approve m:2 --for champion" in err

    status, out, _ = run("promote", "m:2", "champion", "--json")
    error = json.loads(out)["error"]
    assert (status, error["code"]) == (1, "promotion-refused")
    jsonschema.validate(error["details"], exactly(**PLAN))
    assert {gate["gate"]: gate["state"] for gate in error["details"]["gates"]} == {
        "safety": "passed",
        "size": "passed",
        "approvals": "missing",
    }
    assert json.loads(ok(run("ls", "--json")))[0]["aliases"] == {"champion": 1}


def test_a_dry_run_decides_and_changes_nothing(run, push, own_home: Path) -> None:
    push(1)
    before = ok(run("history", "m"))

    body = printed(run("promote", "m:1", "champion", "--dry-run", "--json"), MOVED)
    assert (body["moved"], body["dry_run"], body["from"]) == (False, True, None)
    assert "dry run" in ok(run("promote", "m:1", "champion", "--dry-run"))
    (own_home / "promotion.toml").write_text(RULES)
    assert run("promote", "m:1", "champion", "--dry-run")[0] == 1
    assert ok(run("history", "m")) == before


def test_an_approval_opens_its_gate(run, push, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(1)
    (own_home / "promotion.toml").write_text(RULES)
    monkeypatch.setenv("ASSAY_ACTOR", "bob")

    schema = exactly(
        reference=TEXT, digest=DIGEST, alias=or_null(TEXT), approves=FLAG, actor=TEXT, new=FLAG,
    )  # fmt: skip
    body = printed(run("approve", "m:1", "--for", "champion", "--note", "fine", "--json"), schema)
    assert (body["actor"], body["approves"], body["new"]) == ("bob", True, True)
    assert "as it was already" in run("approve", "m:1", "--for", "champion")[2]
    ok(run("approve", "m:1", "--for", "champion", "--withdraw"))
    assert run("promote", "m:1", "champion")[0] == 1
    status, _, err = run("approve", "m")  # which version that is changes with every push
    assert (status, "names a model, not one of its versions" in err) == (2, True)
    ok(run("approve", "m:1"))
    body = printed(run("promote", "m:1", "champion", "--json"), MOVED)
    assert (body["moved"], body["override"]) == (True, None)


def test_gates_of_the_project_hold_where_one_works_in_it(run, push, tmp_path: Path) -> None:
    push(1)
    (tmp_path / "assay.toml").write_text(RULES)

    status, out, _ = run("promote", "m:1", "champion")
    assert status == 1
    assert "assay.toml" in out
    assert push(2)[0] == 0
    (tmp_path / "assay.toml").write_text("[[promotion]]\nalias = 'champion'\n")
    status, _, err = run("promote", "m:1", "champion")
    assert (status, "asks nothing" in err) == (2, True)
    assert push(3)[0] == 0


def test_an_override_is_shown_and_kept(run, push, own_home: Path) -> None:
    push(1)
    (own_home / "promotion.toml").write_text(RULES)

    out = ok(run("promote", "m:1", "champion", "--override", "the old one is down"))
    assert "overridden  approvals" in out
    assert "overridden approvals: the old one is down" in ok(run("history", "m"))
    assert "every gate is open" in run("promote", "m:1", "beta", "--override", "to be sure")[2]


def test_rollback_and_unalias_go_back_and_away(run, push) -> None:
    for seed in (1, 2):
        push(seed)
        ok(run("promote", f"m:{seed}", "champion"))

    assert "rollback m champion goes back" in run("promote", "m:1", "champion")[2]
    body = printed(run("rollback", "m", "champion", "--reason", "worse", "--json"), MOVED)
    assert (body["from"], body["version"], body["moved"]) == (1, 2, True)
    assert ok(run("rollback", "m", "champion", "--dry-run")).endswith(
        "m:champion -> m:1 (dry run: nothing was changed)\n"
    )
    assert "alias champion rolled back from 1 to 2: worse" in ok(run("history", "m"))
    assert run("rollback", "m", "champion", "--steps", "9")[0] == 2
    assert run("rollback", "m", "champion", "--to", "9")[0] == 2
    assert run("rollback", "m", "champion", "--to", "1", "--steps", "1")[0] == 64
    assert run("rollback", "nothing", "champion")[0] == 2

    body = printed(run("unalias", "m", "champion", "--reason", "retired", "--json"), exactly(**REMOVED))
    assert body == {"name": "m", "alias": "champion", "from": 2}
    assert run("unalias", "m", "champion", "--reason", "again")[0] == 2
    assert "alias champion removed from 2: retired" in ok(run("history", "m"))
    assert ok(run("rollback", "m", "champion")).endswith("m:champion -> m:2\n")
    assert "m:champion removed" in ok(run("unalias", "m", "champion", "--reason", "retired", "--expect", "2"))


REMOVED = {"name": TEXT, "alias": TEXT, "from": NUMBER}


@pytest.mark.parametrize(("expect", "status"), [("1", 0), ("2", 2), ("none", 2), ("0", 64), ("x", 64)])
def test_an_alias_moves_from_where_it_is_expected(run, push, expect: str, status: int) -> None:
    push(1)
    push(2)
    ok(run("promote", "m:1", "champion", "--expect", "none"))

    assert run("promote", "m:2", "champion", "--expect", expect)[0] == status


def test_a_push_to_a_protected_alias_says_what_to_type(run, push, own_home: Path) -> None:
    push(1)
    (own_home / "promotion.toml").write_text("[[promotion]]\nalias = 'champion'\nprotected = true\n")

    status, _, err = push(2, "--alias", "champion")
    assert (status, "protected by promotion.toml" in err, "assay promote m champion" in err) == (1, True, True)
    assert json.loads(ok(run("ls", "--json")))[0]["versions"] == 1
    assert json.loads(push(2, "--alias", "champion", "--json")[1])["error"]["code"] == "alias-protected"


def test_what_was_yanked_is_marked_and_whoever_names_it_is_warned(run, push) -> None:
    push(1)
    push(2, "--alias", "champion")

    schema = exactly(reference=TEXT, digest=DIGEST, yanked=or_null(TEXT), changed=FLAG, aliases=LIST)
    body = printed(run("yank", "m:2", "--reason", "wrong labels", "--json"), schema)
    assert body["aliases"] == ["champion"]

    for command in (("show", "m:champion"), ("pull", "m:2", "out"), ("verify", "m:2")):
        status, _, err = run(*command)
        assert (status, err.count("was yanked: wrong labels")) == (0, 1), command
    status, _, err = run("pull", "m:2", "again", "--yanked")
    assert (status, "was yanked:" in err) == (0, False)
    assert "it must not be used any more: wrong labels" in ok(run("show", "m:2"))
    assert "yanked: wrong" in ok(run("ls", "m"))
    assert "version 2 yanked: wrong labels" in ok(run("history", "m"))
    assert json.loads(ok(run("show", "m", "--json")))["version"] == 1
    assert json.loads(ok(run("show", "m:2", "--json")))["yanked"] == "wrong labels"
    assert "yank m:2 --undo" in run("promote", "m:2", "beta")[2]

    status, _, err = run("yank", "m:2", "--undo")
    assert (status, "warning" in err, "may be used again" in err) == (0, False, True)
    assert "version 2 unyanked" in ok(run("history", "m"))
    assert run("yank", "m:2")[0] == 2
    assert run("yank", "m", "--reason", "x")[0] == 2


def test_names_and_references_are_completed(run, push) -> None:
    push(1)

    for command, typed in (("promote", "m"), ("approve", "m"), ("yank", "m"), ("rollback", "m"), ("unalias", "m")):
        found = ShellComplete(main, {"obj": None}, "assay", "_ASSAY_COMPLETE").get_completions([command], typed)
        assert [item.value for item in found] == ["m"], command


def test_aliases_are_completed_from_those_of_the_model_named_before(run, push) -> None:
    push(1, "--alias", "champion")
    push(2, "--alias", "beta")

    for typed in (["promote", "m:1"], ["rollback", "m"], ["unalias", "m"]):
        complete = ShellComplete(main, {"obj": None}, "assay", "_ASSAY_COMPLETE")
        assert [item.value for item in complete.get_completions(typed, "ch")] == ["champion"], typed
        assert [item.value for item in complete.get_completions(typed, "")] == ["beta", "champion"], typed


def test_the_sdk_promotes_rolls_back_approves_and_yanks(own_home: Path, tmp_path: Path, monkeypatch) -> None:
    for seed in (1, 2):
        np.save(tmp_path / "w.npy", np.arange(seed, dtype="f4"))
        assay.push(tmp_path / "w.npy", "m")
    (own_home / "promotion.toml").write_text(RULES)
    with pytest.raises(Refused) as caught:
        assay.promote("m:1", "champion")
    assert [gate["gate"] for gate in caught.value.details["gates"] if gate["state"] != "passed"] == ["approvals"]
    monkeypatch.setenv("ASSAY_ACTOR", "bob")
    for number in (1, 2):
        assert assay.approve(f"m:{number}", alias="champion").new
        assert not assay.promote(f"m:{number}", "champion", dry_run=True).moved
        assert assay.promote(f"m:{number}", "champion", reason="good").moved
    assert assay.rollback("m", "champion").plan.version.number == 1
    assert assay.yank("m:1", reason="wrong labels").yanked == "wrong labels"

    with pytest.warns(UserWarning, match="wrong labels"), pytest.raises(Refused) as caught:
        assay.load("m:champion")
    assert caught.value.code == "version-yanked"
    with pytest.warns(UserWarning, match="m:champion is m:1, which was yanked: wrong labels"):
        assert assay.load("m:champion", yanked=True).shape == (1,)
    with pytest.warns(UserWarning, match="wrong labels"):
        assay.pull("m:1", tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert assay.show("m")["version"] == 2
        assert assay.yank("m:1", undo=True).yanked is None
        assay.unalias("m", "champion", reason="retired")
    assert assay.show("m:1")["aliases"] == []


def test_what_one_types_wrongly_is_told_by_what_it_is(run, push) -> None:
    push(1)
    ok(run("promote", "m:1", "champion"))

    assert "not an alias: 'm:1'" in run("promote", "champion", "m:1")[2]
    status, _, err = run("rollback", "m", "champoin")
    assert (status, "m never had an alias 'champoin'" in err, "its aliases: champion" in err) == (2, True, True)
    assert "assay promote m:N champion" in run("rollback", "m", "champion", "--to", 9)[2]
    assert "it was not yanked" in run("yank", "m:1", "--undo")[2]
    ok(run("yank", "m:1", "--reason", "leaked"))
    assert "yanked: leaked, as it was already" in run("yank", "m:1", "--reason", "worse")[2]


def test_foreign_text_steers_no_terminal_not_even_by_colours(run, push, own_home: Path) -> None:
    reason = "\x1b[8mhidden\x07"
    push(1)
    ok(run("promote", "m:1", "champion", "--reason", reason))

    for told in (run("history", "m"), run("yank", "m:1", "--reason", reason), run("show", "m:1")):
        said = ok(told) + told[2]
        assert "\x1b" not in said
        assert "\\x1b[8mhidden" in said
