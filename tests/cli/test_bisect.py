"""``assay bisect``: a regression is found with few runs of a person's own command, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import assay
from assay.cli import bisect as command_line
from assay.errors import InvalidInput, NotFound
from assay.service.bisect import Outcome
from assay.settings import Settings
from assay.spec.changes import Answer, Comparison, DropIn, Kinship, Side


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was compared; comparing itself has its own tests."""
    seen: list[tuple[str, str]] = []

    def diff(old: str, new: str, settings: Settings) -> Comparison:
        seen.append((old, new))
        return Comparison(
            old=Side(label=old),
            new=Side(label=new),
            kinship=Kinship.FINE_TUNE,
            summary=(f"{new} is a fine-tune of {old}.",),
            drop_in=DropIn(Answer.YES, ("the same inputs and outputs",)),
        )

    monkeypatch.setattr(command_line, "diff", diff)
    monkeypatch.setattr("assay.api.bisecting.diff", diff)
    return seen


@pytest.fixture
def line(tmp_path: Path):
    """``line(words)``: a model ``m`` with one version per word, which is the content of its file ``state``."""

    def do(words: str) -> None:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for at, word in enumerate(words.split(), 1):
            (folder / "state").write_text(f"{word}\n")
            (folder / "number").write_text(str(at))
            assay.push(folder, "m")

    return do


@pytest.fixture
def script(tmp_path: Path):
    """``script(text)``: a program in the current folder."""

    def do(text: str) -> str:
        (tmp_path / "evaluate.sh").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "evaluate.sh").chmod(0o755)
        return "./evaluate.sh"

    return do


BY_STATE = """
echo run >> runs
case "$(cat "$1/state")" in good) exit 0;; bad) exit 1;; skip) exit 125;; esac
exit 255"""


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


def left_behind(home: Path) -> list[str]:
    return [path.name for path in (home / "trials").iterdir()] if (home / "trials").is_dir() else []


def test_a_planted_regression_among_twenty_versions_is_named_after_at_most_five_runs(
    run, line, script, tmp_path: Path, own_home: Path, compared: list
) -> None:
    line("good " * 12 + "bad " * 8)

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 20, "--", script(BY_STATE), "{path}")

    assert status == 0
    assert out.startswith("m:13 sha256:")
    assert "m:13 is a fine-tune of m:12." in out
    assert "by tester" in err
    assert "private copy" in err
    assert 1 <= runs(tmp_path) <= 5
    assert compared == [("m:12", "m:13")]
    assert left_behind(own_home) == []


def test_when_the_good_version_is_newer_the_one_that_mended_it_is_named(run, line, script) -> None:
    line("bad bad bad good good")

    status, out, err = run("bisect", "m", "--good", 5, "--bad", 1, "--", script(BY_STATE), "{path}")

    assert status == 0
    assert out.startswith("m:4 ")
    assert "first good version" in err


def test_what_is_said_as_json_is_pinned(run, line, script) -> None:
    line("good skip good bad bad")
    text, number, texts = {"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}
    step = {"name", "version", "digest", "outcome", "status", "value", "why"}

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 5, "--json", "--", script(BY_STATE), "{path}")

    body = json.loads(out)
    jsonschema.validate(
        body,
        {
            "additionalProperties": False,
            "required": [
                "name", "good", "bad", "seeking", "found", "before", "candidates", "tests", "steps", "again", "notes",
                "comparison", "unexplained",
            ],
            "properties": {
                "name": text, "good": number, "bad": number, "seeking": {"enum": ["good", "bad"]}, "before": text,
                "found": {"type": ["object", "null"]}, "candidates": texts, "tests": number, "again": texts,
                "notes": texts, "comparison": {"type": ["object", "null"]}, "unexplained": {"type": ["string", "null"]},
                "steps": {"type": "array", "items": {"required": sorted(step)}},
            },
        },
    )  # fmt: skip
    assert status == 0
    assert body["found"]["reference"] == "m:4"
    assert all(set(one) == step for one in body["steps"])
    assert body["comparison"] == {
        "old": "m:3",
        "new": "m:4",
        "kinship": "fine-tune",
        "summary": ["m:4 is a fine-tune of m:3."],
        "states": {},
        "drop_in": {"answer": "yes", "reasons": ["the same inputs and outputs"]},
    }


def test_versions_that_cannot_be_tested_beside_the_change_are_named_and_nothing_is_decided(run, line, script) -> None:
    line("good good skip skip bad bad")

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 6, "--", script(BY_STATE), "{path}")

    assert status == 2
    assert out.splitlines()[:3] == ["m:3", "m:4", "m:5"]
    assert "skipped: 4 (the command exited with 125), 3 (the command exited with 125)" in err


def test_a_purged_version_is_skipped_and_named(run, line, script, tmp_path: Path) -> None:
    line("good good good bad bad")
    run("purge", "m:3", "--reason", "spoilt", "--yes")

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 5, "--", script(BY_STATE), "{path}")

    assert status == 2
    assert out.splitlines()[:2] == ["m:3", "m:4"]
    assert "3 (purged: spoilt)" in err


def test_a_version_that_the_policy_does_not_let_out_is_skipped_and_never_laid_out(
    run, line, script, tmp_path: Path
) -> None:
    line("good good")
    (tmp_path / "model/weights.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    run("push", "./model", "m")
    (tmp_path / "model/weights.pkl").unlink()
    line("skip bad bad")

    status, _, err = run("bisect", "m", "--good", 1, "--bad", 6, "--policy", "strict", "--", script(BY_STATE), "{path}")

    assert "3 (refused to pull m:3: it is unsafe" in err
    assert status == 2
    assert runs(tmp_path) == 3  # of 2, 4 and 5


@pytest.mark.parametrize(("ending", "said"), [("exit 128", "exited with 128"), ("kill -TERM $$", "ended by SIGTERM")])
def test_a_command_that_gives_up_ends_the_search(run, line, script, own_home: Path, ending: str, said: str) -> None:
    line("good good bad")

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 3, "--", script(ending))

    assert (status, out) == (2, "")
    assert f"{said} on m:2" in err
    assert left_behind(own_home) == []


@pytest.mark.parametrize("ending", [126, 127])
def test_a_command_that_no_shell_can_run_is_not_taken_for_a_bad_version(run, line, script, ending: int) -> None:
    line("good good good bad")

    status, _, err = run("bisect", "m", "--good", 1, "--bad", 4, "--", script(f"exit {ending}"))

    assert status == 2
    assert f"also exits with {ending} on m:1, which is given as good" in err


def test_126_and_127_are_bad_when_the_good_end_does_not_end_so(run, line, script) -> None:
    line("good good bad bad")

    status, out, _ = run(
        "bisect", "m", "--good", 1, "--bad", 4, "--", script('grep -q good "$1/state" || exit 127'), "{path}"
    )

    assert status == 0
    assert out.startswith("m:3 ")


@pytest.mark.parametrize("command", ["./nowhere.sh", "./plain.sh", "./no-interpreter.sh"])
def test_a_command_that_cannot_be_started_is_told_before_anything_is_decided(
    run, line, tmp_path: Path, command: str
) -> None:
    line("good good bad")
    (tmp_path / "plain.sh").write_text("#!/bin/sh\n")
    (tmp_path / "no-interpreter.sh").write_text("exit 0\n")
    (tmp_path / "no-interpreter.sh").chmod(0o755)

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 3, "--json", "--", command)

    assert status == 2
    assert json.loads(out)["error"]["code"] == "command-not-started"
    assert command in err


def test_the_command_runs_here_and_learns_what_it_is_to_test(run, line, script, tmp_path: Path, own_home: Path) -> None:
    line("good good bad")
    command = script('pwd > seen; printf "%s\\n" "$@" "$ASSAY_BISECT_REFERENCE" "$ASSAY_BISECT_VERSION" >> seen\n'
                     'printf "%s\\n" "$ASSAY_BISECT_PATH" "$ASSAY_BISECT_NAME" "$ASSAY_HOME" >> seen; echo chatter')  # fmt: skip

    status, out, err = run(
        "bisect",
        "m",
        "--good",
        1,
        "--bad",
        3,
        "--",
        command,
        "{ref}-{version}",
        "{path}/state",
        "{print $1}",
        "{digest}",
    )

    seen = (tmp_path / "seen").read_text().splitlines()
    path = seen[-3]
    digest = str(assay.versions("m")[1].manifest)
    assert status == 0
    assert seen[:-3] == [str(tmp_path), "m:2-2", f"{path}/state", "{print $1}", digest, "m:2", "2"]
    assert seen[-2:] == ["m", str(own_home)]
    assert "chatter" in err
    assert "chatter" not in out


def test_the_only_file_of_a_version_has_a_place_of_its_own(run, script, tmp_path: Path) -> None:
    for word in ("good", "good but more", "bad"):
        (tmp_path / "model.txt").write_text(word)
        assay.push(tmp_path / "model.txt", "m")

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 3, "--", "grep", "-q", "good", "{file}")

    assert status == 0
    assert out.startswith("m:3 ")


def test_a_place_for_the_only_file_of_several_is_an_error(run, line) -> None:
    line("good good bad")

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 3, "--json", "--", "cat", "{file}")

    assert status == 2
    assert json.loads(out)["error"]["code"] == "no-single-file"


def test_whatever_the_command_does_to_the_files_the_store_is_unharmed(run, line, script, own_home: Path) -> None:
    line("good good good bad")
    command = script('chmod -R u+w "$1"; echo spoilt > "$1/state"; rm "$1/number"; touch "$1/new"; chmod a-w "$1"')

    status, _, _ = run("bisect", "m", "--good", 1, "--bad", 4, "--", command, "{path}")

    assert status == 0
    assert run("verify", "--all")[0] == 0
    assert left_behind(own_home) == []


def test_links_are_given_on_request(run, line, script, tmp_path: Path) -> None:
    line("good good bad")

    status, _, err = run(
        "bisect", "m", "--good", 1, "--bad", 3, "--link", "--", script('stat -c "%h %a" "$1/state" > seen'), "{path}"
    )

    links, mode = (tmp_path / "seen").read_text().split()
    assert status == 0
    assert int(links) > 1
    assert int(mode, 8) & 0o222 == 0
    assert "hard links" in err


def test_a_search_goes_on_from_its_log_without_running_anything_twice(run, line, script, tmp_path: Path) -> None:
    line("good " * 6 + "bad " * 6)
    arguments = ("bisect", "m", "--good", 1, "--bad", 12, "--json")
    first = json.loads(run(*arguments, "--log", "steps", "--", script(BY_STATE), "{path}")[1])
    before = runs(tmp_path)

    again = json.loads(run(*arguments, "--replay", "steps", "--", script(BY_STATE), "{path}")[1])

    logged = [json.loads(text) for text in (tmp_path / "steps").read_text().splitlines()]
    assert logged == first["steps"] == again["steps"]
    assert again["found"] == first["found"]
    assert (first["tests"], again["tests"]) == (before, 0)
    assert runs(tmp_path) == before


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "no json\n",
        "[]\n",
        "[" * 100_000,
        f'{{"outcome": "perhaps", "status": 0, "why": null, "digest": "{DIGEST}"}}\n',
        '{"outcome": "bad", "status": 1, "why": null, "digest": "x"}\n',
        '{"outcome": "bad", "status": 1, "why": null, "digest": 7}\n',
        f'{{"outcome": "bad", "status": [1], "why": null, "digest": "{DIGEST}"}}\n',
        f'{{"outcome": "skip", "status": 125, "why": {{}}, "digest": "{DIGEST}"}}\n',
    ],
    ids=["no json", "a list", "deep", "no outcome", "no digest", "a number", "status", "why"],
)
def test_what_is_no_log_is_not_replayed(run, line, tmp_path: Path, text: str) -> None:
    line("good good bad")
    (tmp_path / "steps").write_text(text)

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 3, "--replay", "steps", "--json", "--", "true")

    assert status == 2
    assert json.loads(out)["error"]["code"] == "bad-bisect-log"


def test_by_a_recorded_metric_nothing_is_run_or_read(run, line, own_home: Path) -> None:
    line("a b c d")
    for number, value in enumerate((0.9, 0.91, 0.7, 0.71), 1):
        assay.evaluate(f"m:{number}", {"auc": value}, dataset="holdout")

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 4, "--metric", "auc", "--dataset", "holdout", "--json")

    body = json.loads(out)
    assert status == 0
    assert body["found"]["reference"] == "m:3"
    assert body["tests"] == 0
    assert [step["value"] for step in body["steps"]] == [0.9, 0.91, 0.7, 0.71]
    assert not (own_home / "trials").exists()


def test_a_metric_that_changed_more_than_once_is_told(run, line) -> None:
    line("a b c d")
    for number, value in enumerate((0.9, 0.5, 0.91, 0.5), 1):
        assay.evaluate(f"m:{number}", {"auc": value})

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 4, "--metric", "auc")

    assert status == 0
    assert out.startswith("m:2 ")
    assert "changed more than once: 3 is good again" in err
    assert "from m:4 on" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--metric", "auc", "--", "true"),
        ("--threshold", "1", "--", "true"),
        ("--dataset", "d", "--", "true"),
        ("--metric", "auc", "--link"),
        ("--metric", "auc", "--log", "x"),
        ("--metric", "auc", "--threshold", "1", "--drop", "1"),
        ("--metric", "auc", "--drop", "-1"),
    ],
)
def test_a_search_by_nothing_or_by_two_things_is_mistyped(run, arguments: tuple[str, ...]) -> None:
    assert run("bisect", "m", "--good", 1, "--bad", 3, *arguments)[0] == 64


def test_nothing_is_compared_when_nobody_asks_for_it(run, line, script, compared: list) -> None:
    line("good bad")

    status, out, _ = run("bisect", "m", "--good", 1, "--bad", 2, "--no-diff", "--", script(BY_STATE), "{path}")

    assert (status, len(out.splitlines()), compared) == (0, 1, [])


def test_an_answer_whose_comparison_fails_is_still_an_answer(run, line, script, monkeypatch) -> None:
    line("good bad")

    def fails(*_: object) -> Comparison:
        raise NotFound("the bytes of it are not here")

    monkeypatch.setattr(command_line, "diff", fails)

    status, out, err = run("bisect", "m", "--good", 1, "--bad", 2, "--", script(BY_STATE), "{path}")

    assert status == 0
    assert out.startswith("m:2 ")
    assert "the bytes of it are not here" in err


def test_an_interrupt_leaves_nothing_behind(line, script, tmp_path: Path, own_home: Path) -> None:
    line("good good bad")
    command = script("touch started; sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "assay", "bisect", "m", "--good", "1", "--bad", "3", "--", command],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (tmp_path / "started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it

    process.communicate(timeout=50)
    assert process.returncode == 130
    assert left_behind(own_home) == []


def test_an_interrupt_ends_what_the_command_started(line, script, tmp_path: Path, own_home: Path) -> None:
    line("good good bad")
    command = script("sleep 300 & echo $! > started; wait; sleep 300")
    process = subprocess.Popen(
        [sys.executable, "-m", "assay", "bisect", "m", "--good", "1", "--bad", "3", "--", command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (tmp_path / "started").exists() or not (tmp_path / "started").read_text().strip():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)  # to this process alone

    process.communicate(timeout=100)  # its streams are closed: nobody holds them any more
    assert process.returncode == 130
    assert left_behind(own_home) == []


def test_what_a_killed_search_left_is_removed_by_the_next_one(run, line, script, own_home: Path) -> None:
    line("good good bad")
    left = own_home / "trials/killed/m"
    left.mkdir(parents=True)
    (left / "state").write_text("x")

    run("bisect", "m", "--good", 1, "--bad", 3, "--", script(BY_STATE), "{path}")

    assert left_behind(own_home) == []


def test_a_function_is_a_test_of_a_folder_or_of_a_reference(line, own_home: Path) -> None:
    line("good good good bad bad")
    asked: list[str] = []

    def by_folder(folder: Path) -> bool:
        return (folder / "state").read_text() == "good\n"

    def by_reference(reference: str) -> bool:
        asked.append(reference)
        return reference not in {"m:4", "m:5"}

    assert assay.bisect("m", good=1, bad=5, test=by_folder).found.first.number == 4
    assert assay.bisect("m", good=1, bad="5", test=by_reference, by_reference=True).found.first.number == 4
    assert asked == ["m:3", "m:4"]
    assert left_behind(own_home) == []


def test_a_function_that_cannot_tell_skips_and_one_that_fails_ends_the_search(line, own_home: Path) -> None:
    line("good good bad")

    found = assay.bisect("m", good=1, bad=3, test=lambda folder: None).found

    assert [step.tested.outcome for step in found.steps] == [Outcome.SKIP]
    assert found.first is None
    with pytest.raises(NotFound):
        assay.bisect("m", good=1, bad=3, test=lambda folder: assay.load("nowhere"))
    assert left_behind(own_home) == []


def test_in_python_a_search_is_by_one_thing(line) -> None:
    line("good good bad")

    with pytest.raises(InvalidInput) as caught:
        assay.bisect("m", good=1, bad=3)
    assert caught.value.code == "bisect-by-what"


def test_in_python_a_search_may_be_by_a_recorded_metric(line) -> None:
    line("a b c")
    for number, value in enumerate((0.2, 0.9, 0.9), 1):
        assay.evaluate(f"m:{number}", {"loss": value})

    assert assay.bisect("m", good=1, bad=3, metric="loss", threshold=0.5).found.first.number == 2
