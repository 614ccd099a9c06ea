"""``gc``, ``remove``, ``pin`` and copies to homes on the command line: what is said, what is done, and the JSON of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

TEXT, NUMBER, FLAG, LIST = ({"type": kind} for kind in ("string", "integer", "boolean", "array"))
MAYBE = {"type": ["string", "null"]}
DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}


def exactly(**fields: dict) -> dict:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


def items(schema: dict) -> dict:
    return {"type": "array", "items": schema}


GROUP = exactly(why=TEXT, version=MAYBE, reason=MAYBE, since=TEXT, until=MAYBE, blobs=NUMBER, bytes=NUMBER)
GC = exactly(
    dry_run=FLAG,
    freed=NUMBER,
    grace=NUMBER,
    versions=items(exactly(reference=TEXT, keep=FLAG, because=items(TEXT))),
    garbage=items(GROUP),
    kept=items(GROUP),
    leftovers=items(exactly(path=TEXT, bytes=NUMBER)),
    derived=items(exactly(path=TEXT, bytes=NUMBER, why=TEXT)),
    unreadable=items(TEXT),
    removed=NUMBER,
    spared=NUMBER,
    needed=exactly(blobs=NUMBER, bytes=NUMBER),
    packs={
        "anyOf": [
            {"type": "null"},
            exactly(
                blobs=NUMBER,
                raw=NUMBER,
                dead=NUMBER,
                about=NUMBER,
                freed={"type": ["integer", "null"]},
                left={"type": ["integer", "null"]},
            ),
        ]
    },
)
PINNED = exactly(reference=TEXT, digest=DIGEST, pinned=MAYBE)
REMOVED = exactly(reference=TEXT, digest=DIGEST, removed=TEXT, bytes={"type": ["integer", "null"]})
COPIED = exactly(
    destination=TEXT,
    **dict.fromkeys(("moved", "skipped", "resumed", "shared", "saved", "verified", "plain", "rate"), NUMBER),
    seconds={"type": "number"},
    versions=items(exactly(source=TEXT, reference=TEXT, digest=DIGEST, new=FLAG, statements=NUMBER)),
    aliases=items(exactly(alias=TEXT, version=NUMBER, moved=FLAG, refused=MAYBE)),
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def three(run, tmp_path: Path) -> None:
    """Three versions of m, with an alias on the first."""
    (tmp_path / "model").mkdir()
    for number, auc in enumerate((0.8, 0.9, 0.7), 1):
        (tmp_path / "model/config.json").write_text(json.dumps({"number": number, "more": "x" * 4000}))
        alias = ("--alias", "champion") if number == 1 else ()
        assert run("push", "./model", "m", "--metric", f"auc={auc}", *alias)[0] == 0


def ok(outcome: tuple[int, str, str]) -> str:
    assert outcome[0] == 0, outcome[2]
    return outcome[1]


def answer(outcome: tuple[int, str, str], schema: dict) -> dict:
    body = json.loads(ok(outcome))
    jsonschema.validate(body, schema)
    return body


def age(home: Path) -> None:
    for blob in (home / "blobs/sha256").iterdir():
        os.utime(blob, (1, 1))


def test_without_yes_everything_is_said_and_nothing_changed(run, three, own_home: Path) -> None:
    ok(run("remove", "m:2", "--reason", "bad data", "--yes"))
    age(own_home)
    before = {path: path.stat().st_ino for path in own_home.rglob("*") if path.is_file()}

    status, out, err = run("gc")

    assert status == 0
    assert "m:2, removed (bad data); since 1970" not in out
    assert "m:2, removed (bad data); since 2" in out
    assert "would come back: assay gc --yes" in err
    assert {path: path.stat().st_ino for path in own_home.rglob("*") if path.is_file()} == before


def test_with_yes_the_bytes_come_back(run, three, own_home: Path) -> None:
    ok(run("remove", "m:2", "--reason", "bad data", "--yes"))
    age(own_home)
    planned = answer(run("gc", "--json"), GC)
    assert (planned["dry_run"], planned["removed"]) == (True, 0)
    assert {(group["why"], group["version"], group["reason"]) for group in planned["garbage"]} == {
        ("version-removed", "m:2", "bad data"),
        ("statement-without-subject", "m:2", "bad data"),
    }

    done = answer(run("gc", "--yes", "--json"), GC)

    assert (done["dry_run"], done["freed"], done["removed"]) == (False, planned["freed"], 9)
    assert ok(run("verify", "--all"))
    assert answer(run("gc", "--grace", "0", "--json"), GC)["garbage"] == []


def test_the_grace_period_is_a_day_unless_said_otherwise(run, three) -> None:
    ok(run("remove", "m:2", "--reason", "bad data", "--yes"))

    body = answer(run("gc", "--json"), GC)

    assert (body["grace"], body["garbage"], body["freed"]) == (86400, [], 0)
    assert sum(group["blobs"] for group in body["kept"]) == 9
    assert all(group["until"] > group["since"] for group in body["kept"])
    assert "9 blobs" in run("gc")[2]
    assert "added less than 1 day ago" in run("gc")[2]
    assert sum(group["blobs"] for group in answer(run("gc", "--grace", "0", "--json"), GC)["garbage"]) == 9


def test_no_grace_at_all_is_allowed_with_a_warning(run, three) -> None:
    assert "warning: no grace period" in run("gc", "--grace", "0", "--yes")[2]
    assert "warning" not in run("gc", "--grace", "0")[2]
    assert "warning" not in run("gc", "--yes")[2]


def test_rules_on_the_command_line_show_what_keeps_each_version_and_then_remove_the_others(run, three) -> None:
    body = answer(run("gc", "--keep-last", "1", "--json"), GC)

    assert {one["reference"]: (one["keep"], one["because"]) for one in body["versions"]} == {
        "m:3": (True, ["among the last 1"]),
        "m:2": (False, ["kept are: the last 1"]),
        "m:1": (True, ["alias champion"]),
    }
    shown = ok(run("gc", "--keep-last", "1", "--keep-best", "auc"))
    assert "highest auc (0.9)" in shown
    assert "would go" not in shown
    shown = ok(run("gc", "--keep-last", "1", "--yes", "--grace", "0"))
    assert "removed" in shown
    listed = json.loads(ok(run("ls", "m", "--json")))["versions"]
    assert {one["version"]: one.get("removed") for one in listed} == {
        3: None,
        2: "retention: kept are: the last 1",
        1: None,
    }


def test_rules_of_the_registry_hold_unless_told_not_to_and_options_add_to_them(run, three, own_home: Path) -> None:
    (own_home / "retention.toml").write_text("[[rule]]\nmodels = ['m']\nkeep_last = 1\n")

    def going(*options: str) -> set[str]:
        body = answer(run("gc", *options, "--json"), GC)
        return {one["reference"] for one in body["versions"] if not one["keep"]}

    assert going() == {"m:2"}
    assert going("--keep-best", "auc") == set()
    assert going("--no-retention") == set()
    (own_home / "retention.toml").write_text("[[rule]]\nkeep_lats = 1\n")
    status, out, _ = run("gc", "--yes", "--json")
    assert (status, json.loads(out)["error"]["code"]) == (2, "bad-retention")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("gc", "--grace", "soon"), 2, "bad-duration"),
        (("gc", "--keep-younger", "90"), 2, "bad-duration"),
        (("gc", "--keep-best", ":lower"), 2, "bad-retention"),
        (("gc", "--keep-last", "0"), 64, "usage"),
        (("gc", "--model", "m"), 64, "usage"),
        (("gc", "--no-retention", "--keep-last", "1"), 64, "usage"),
        (("remove", "m", "--reason", "x", "--yes"), 2, "version-not-named"),
        (("remove", "m:1", "--reason", "x", "--yes"), 2, "alias-holds"),
        (("remove", "m:2", "--reason", " ", "--yes"), 2, "reason-missing"),
        (("remove", "m:2", "--yes"), 64, "usage"),
        (("remove", "m:2", "--reason", "x"), 64, "usage"),
        (("remove", "m:9", "--reason", "x", "--yes"), 2, "version-not-found"),
        (("pin", "m", "--reason", "x"), 2, "version-not-named"),
        (("copy", "m", "./elsewhere"), 2, "copy-not-supported"),
        (("copy", "m", "home:"), 2, "invalid-reference"),
        (("copy", "m:1", "home:./other", "--all"), 64, "usage"),
        (("copy", "m", "oci:./layout", "--all"), 64, "usage"),
        (("copy", "m", "home:./other", "--as", "n:1"), 2, "invalid-name"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(run, three, arguments: tuple[str, ...], status: int, code: str) -> None:
    found, out, _ = run(*arguments, "--json")

    assert (found, json.loads(out)["error"]["code"]) == (status, code)
    assert len(json.loads(ok(run("history", "m", "--json")))) == 4


def test_a_pinned_version_is_kept_until_it_is_unpinned(run, three) -> None:
    assert answer(run("pin", "m:2", "--reason", "audit", "--json"), PINNED)["pinned"] == "audit"
    assert "pinned: audit" in run("gc", "--keep-last", "1")[1]
    status, _, err = run("remove", "m:2", "--reason", "x", "--yes")
    assert (status, "hint: assay unpin m:2" in err) == (2, True)
    assert answer(run("unpin", "m:2", "--json"), PINNED)["pinned"] is None
    body = answer(run("remove", "m:2", "--reason", "x", "--yes", "--json"), REMOVED)
    assert (body["reference"], body["removed"]) == ("m:2", "x")
    assert body["bytes"] > 4000
    status, _, err = run("pull", "m:2")
    assert (status, "m:2 was removed: x" in err) == (2, True)


def test_derived_folders_are_freed_on_request(run, three, own_home: Path) -> None:
    (own_home / "audits/x").mkdir(parents=True)
    (own_home / "audits/x/one.json").write_bytes(bytes(70))

    assert answer(run("gc", "--json"), GC)["freed"] == 0
    body = answer(run("gc", "--derived", "--yes", "--json"), GC)

    assert body["freed"] == 70
    assert [item["why"] for item in body["derived"]] == ["what is remembered of blobs"]
    assert not (own_home / "audits").exists()


def test_every_version_is_copied_to_another_home_in_order(run, three, tmp_path: Path) -> None:
    body = answer(run("copy", "m", "home:./other", "--all", "--json"), COPIED)

    assert [(one["source"], one["reference"], one["new"]) for one in body["versions"]] == [
        ("m:1", "m:1", True),
        ("m:2", "m:2", True),
        ("m:3", "m:3", True),
    ]
    assert body["aliases"] == []
    again = answer(run("copy", "m", "home:./other", "--all", "--json"), COPIED)
    assert (again["moved"], [one["new"] for one in again["versions"]]) == (0, [False] * 3)
    assert json.loads(ok(run("--home", "other", "ls", "m", "--json")))["versions"][1]["metrics"] == {"auc": 0.9}
    ok(run("--home", "other", "verify", "--all"))


def test_a_copy_under_another_name_says_the_number_it_got(run, three) -> None:
    status, out, err = run("copy", "m:2", "home:./other", "--as", "team/n")

    assert status == 0
    assert out.startswith("team/n:1 sha256:")
    assert "m:2 is team/n:1 there" in err
    assert "1 version to home:" in err


def test_an_alias_that_a_gate_keeps_back_is_told_and_the_exit_status_says_so(run, three, tmp_path: Path) -> None:
    ok(run("copy", "m", "home:./other", "--all"))
    rule = "[[promotion]]\nalias = 'champion'\napprovals = 2\n"
    (tmp_path / "other/promotion.toml").write_text(rule)

    status, out, _ = run("copy", "m", "home:./other", "--all", "--aliases", "--json")

    body = json.loads(out)
    jsonschema.validate(body, COPIED)
    assert status == 1
    assert [(one["alias"], one["version"], one["moved"]) for one in body["aliases"]] == [("champion", 1, False)]
    assert "approv" in body["aliases"][0]["refused"]
    (tmp_path / "other/promotion.toml").unlink()
    body = answer(run("copy", "m", "home:./other", "--all", "--aliases", "--json"), COPIED)
    assert body["aliases"] == [{"alias": "champion", "version": 1, "moved": True, "refused": None}]


def test_every_field_of_the_json_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()

    def names(schema: dict) -> set[str]:
        inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return set(schema.get("properties", {})) | {name for one in inner for name in names(one)}

    missing = {name for schema in (GC, PINNED, REMOVED, COPIED) for name in names(schema) if f"`{name}`" not in page}
    assert missing == set()
