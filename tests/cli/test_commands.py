"""The command line: answers, exit statuses, errors with hints, and never a traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from model_files import safetensors

from assay.cli import verify as verify_command
from assay.service.registry import Registry
from assay.settings import Settings
from assay.spec.digest import Digest
from assay.spec.records import Version
from assay.spec.reference import Reference
from assay.spec.statement import Statement
from assay.wiring.places import open_registry


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (tmp_path / "model/weights.bin").write_bytes(safetensors(weight=("U8", [2560], bytes(range(256)) * 10)))
    return tmp_path / "model"


def ok(outcome: tuple[int, str, str]) -> str:
    assert outcome[0] == 0, outcome[2]
    return outcome[1]


def test_push_prints_the_reference_and_the_whole_digest_on_one_line(run, model: Path) -> None:
    out = ok(run("push", model, "team/model"))

    reference, digest = out.split()
    assert reference == "team/model:1"
    assert Digest.parse(digest)


def test_the_whole_tour_works_and_is_json_throughout(run, model: Path, tmp_path: Path) -> None:
    pushed = json.loads(
        ok(run("push", model, "m", "--alias", "best", "--metric", "auc=0.9", "--param", "lr=1e-3", "--json"))
    )
    listed = json.loads(ok(run("ls", "--json")))
    versions = json.loads(ok(run("ls", "m", "--json")))
    shown = json.loads(ok(run("show", "m:best", "--json")))
    seen = json.loads(ok(run("inspect", "m", "--json")))
    local = json.loads(ok(run("inspect", model, "--json")))
    verified = json.loads(ok(run("verify", "m", "--json")))
    pulled = json.loads(ok(run("pull", "m", "out", "--json")))
    events = json.loads(ok(run("history", "m", "--json")))
    copied = json.loads(ok(run("copy", "m", f"oci:{tmp_path}/layout:v1", "--json")))

    assert pushed["new"]
    assert listed[0]["latest"]["digest"] == pushed["digest"]
    assert versions["versions"][0]["metrics"] == {"auc": 0.9}
    assert shown["reference"] == "m:1"
    assert {said["kind"] for said in shown["statements"]} == {"params", "metrics"}
    assert seen == local
    assert verified["ok"]
    assert pulled["files"] == 2
    assert [event["kind"] for event in events] == ["alias-moved", "version-added"]
    assert copied["digest"] == pushed["digest"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }


def test_the_cards_fit_80_columns(run, model: Path) -> None:
    run(
        "push",
        model,
        "a-rather-long-name-of-a-team/a-rather-long-name-of-a-model",
        "--alias",
        "champion",
        "--note",
        "x" * 300,
    )

    for arguments in (
        ("ls",),
        ("ls", "a-rather-long-name-of-a-team/a-rather-long-name-of-a-model"),
        ("show", "a-rather-long-name-of-a-team/a-rather-long-name-of-a-model", "--files"),
        ("inspect", model, "--tensors"),
        ("history", "a-rather-long-name-of-a-team/a-rather-long-name-of-a-model"),
    ):
        lines = ok(run(*arguments)).splitlines()
        assert max(map(len, lines)) <= 80, arguments


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("push", "./nowhere", "m"), 2, "path-not-found"),
        (("push", "./model", "Bad Name"), 2, "invalid-name"),
        (("push", "./model", "m", "--alias", "7"), 2, "invalid-alias"),
        (("push", "./model", "m", "--metric", "a=nan"), 2, "bad-metric"),
        (("push", "./model", "m", "--metric", "a"), 64, None),
        (("push", "./model", "m", "--metric", "a=b"), 64, None),
        (("push", "./model"), 64, None),
        (("pull", "m"), 2, "model-not-found"),
        (("show", "m:1"), 2, "model-not-found"),
        (("show", "example.org/m"), 2, "remote-not-supported"),
        (("ls", "m"), 2, "model-not-found"),
        (("ls", "--limit", "0"), 64, None),
        (("history", "m"), 2, "model-not-found"),
        (("inspect", "./nowhere"), 2, "path-not-found"),
        (("verify", "m"), 2, "model-not-found"),
        (("verify",), 64, None),
        (("copy", "m", "n"), 2, "copy-not-supported"),
        (("copy", "oci:./nowhere", "n"), 2, "layout-not-found"),
        (("purge", "m"), 64, None),
        (("nonsense",), 64, None),
        (("--nonsense",), 64, None),
        (("--home", "gs://bucket/x", "ls"), 2, "remote-not-supported"),
    ],
)
def test_a_mistake_gives_its_exit_status_a_clear_message_and_no_traceback(
    run, model: Path, arguments: tuple[str, ...], status: int, code: str | None
) -> None:
    run("push", model / "config.json", "other")

    found, _, err = run(*arguments)

    assert found == status
    assert "Traceback" not in err
    assert "rror" in err
    if code is not None:
        _, out, _ = run(*arguments, "--json")
        assert json.loads(out)["error"]["code"] == code


def test_reading_makes_no_registry(run, own_home: Path) -> None:
    assert ok(run("ls", "--json")) == "[]\n"
    status, _, err = run("show", "m")

    assert status == 2
    assert "no registry at" in err
    assert not own_home.exists()


def test_errors_carry_a_hint_that_says_what_to_type(run, model: Path) -> None:
    run("push", model, "fraud/churn")

    _, _, err = run("show", "churn")

    assert err.splitlines() == [
        "error: no model 'churn' in " + os.environ["ASSAY_HOME"],
        "hint: did you mean fraud/churn?",
    ]


def test_a_pull_into_a_full_folder_is_refused_and_changes_nothing(run, model: Path, tmp_path: Path) -> None:
    run("push", model, "m")
    status, _, err = run("pull", "m", model)

    assert status == 2
    assert "is not empty; nothing was written" in err
    assert len(list(model.iterdir())) == 2


def test_verify_exits_1_when_something_is_damaged_and_0_after_the_repair(run, model: Path, own_home: Path) -> None:
    run("push", model, "m")
    blob = own_home / "blobs/sha256" / Digest.of((model / "weights.bin").read_bytes()).hex
    blob.chmod(0o644)
    blob.write_bytes(b"\x00" + blob.read_bytes()[1:-1] + b"\x00")

    status, out, err = run("verify", "m")
    assert status == 1
    assert "damaged: weights.bin" in out
    assert "push the original files again" in err
    run("push", model, "m")
    assert run("verify", "--all")[0] == 0


def test_verifying_all_leaves_out_what_is_purged_meanwhile(run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("push", model, "m")
    (model / "weights.bin").write_bytes(b"others")
    run("push", model, "n")
    listed = verify_command._everything

    def purging(registry: Registry) -> list[Version]:
        found = listed(registry)
        assert run("purge", "m", "--reason", "leaked", "--yes")[0] == 0
        return found

    monkeypatch.setattr(verify_command, "_everything", purging)
    status, out, err = run("verify", "--all")

    assert status == 0, err
    assert "n:1" in out
    assert "m:1" not in out


def test_purge_asks_for_yes_where_nobody_can_be_asked(run, model: Path) -> None:
    run("push", model, "m")

    assert run("purge", "m", "--reason", "leak")[0] == 64
    assert run("verify", "m")[0] == 0
    assert run("purge", "m", "--reason", "leak", "--yes")[0] == 0
    assert run("pull", "m")[0] == 2


def test_reindex_gives_the_same_listing(run, model: Path) -> None:
    run("push", model, "m", "--alias", "a")
    before = ok(run("ls", "--json"))

    run("reindex")

    assert ok(run("ls", "--json")) == before


@pytest.mark.framework
def test_a_card_says_the_settings_of_a_pipeline_once(run, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = [[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]]
    joblib.dump(make_pipeline(StandardScaler(), Ridge(alpha=0.25)).fit(data, [0, 1, 2]), tmp_path / "m.joblib")

    card = ok(run("inspect", "./m.joblib"))

    assert card.count("alpha") == 1
    assert "alpha=0.25" in card


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(run, shell: str) -> None:
    assert "_ASSAY_COMPLETE" in ok(run("completion", shell))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("team/", {"team/model"}), ("team/model:", {"team/model:1", "team/model:best"}), ("x", set())],
)
def test_the_shell_completes_names_and_labels(run, model: Path, typed: str, offered: set[str]) -> None:
    run("push", model, "team/model", "--alias", "best")
    environ = {**os.environ, "_ASSAY_COMPLETE": "bash_complete", "COMP_WORDS": f"assay show {typed}", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "assay"], env=environ, capture_output=True, text=True)

    assert {line.partition(",")[2] for line in done.stdout.split()} == offered


def test_a_crash_is_exit_70_and_never_looks_like_an_answer(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("assay.cli.browse.registry_of", broken)
    status, out, err = run("ls")

    assert status == 70
    assert out == ""
    assert "own fault" in err


def test_interrupting_is_exit_130(tmp_path: Path) -> None:
    with (tmp_path / "big.bin").open("wb") as handle:
        handle.truncate(600 << 20)  # takes no time to make, and long enough to store
    process = subprocess.Popen(
        [sys.executable, "-m", "assay", "push", str(tmp_path / "big.bin"), "m"], stderr=subprocess.PIPE, cwd=tmp_path
    )
    staging = tmp_path / "home/staging"
    while process.poll() is None and not (staging.is_dir() and any(staging.iterdir())):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.decode().strip().endswith("interrupted")
    assert subprocess.run([sys.executable, "-m", "assay", "ls", "m"], capture_output=True).returncode == 2


def test_a_reader_that_stops_early_is_no_error(run, model: Path) -> None:
    run("push", model, "m")
    done = subprocess.run(f"{sys.executable} -m assay show m --json | head -c 10", shell=True, capture_output=True)

    assert done.stderr == b""


def say(home: Path, kind: str, predicate: dict) -> None:
    """Put a statement beside version 1 of ``m``, as a copy from elsewhere may bring it."""
    registry = open_registry(Settings(home, "stranger"))
    manifest = registry.manifest(registry.resolve(Reference.parse("m:1")))
    registry.attach(Statement(manifest.digest, kind, predicate, datetime(2026, 1, 31, tzinfo=UTC)), manifest)


@pytest.mark.parametrize(
    ("kind", "predicate"),
    [
        ("note", {"text": 3}),
        ("note", {"other": "x"}),
        ("metrics", {"metrics": {"auc": "high"}}),
        ("metrics", {"metrics": ["auc"]}),
        ("params", {"params": 7}),
        ("base", {"reference": 1}),
        ("run", {"uri": 3, "run_id": ["x"]}),
        ("environment", {"python": "3.11", "distributions": 4}),
        ("description", {"summary": "large", "models": 3}),
        ("description", {"unknown": 3}),
    ],
)
def test_statements_in_another_form_never_break_a_listing(
    run, model: Path, own_home: Path, kind: str, predicate: dict
) -> None:
    ok(run("push", model, "m"))
    say(own_home, kind, predicate)

    assert "m:1" in ok(run("show", "m"))
    assert "weights.bin" in ok(run("show", "m"))
    assert ok(run("ls", "m")).splitlines()[1].startswith("1 ")
    assert json.loads(ok(run("show", "m", "--json")))["reference"] == "m:1"


def test_an_empty_run_says_nothing(run, model: Path) -> None:
    ok(run("push", model, "m", "--run", "", "--note", ""))

    assert json.loads(ok(run("show", "m", "--json")))["statements"] == []


def test_a_path_that_is_not_there_says_where_it_was_looked_for(run, tmp_path: Path) -> None:
    status, _, error = run("push", "nope", "m")

    assert status == 2
    assert error.splitlines() == ["error: no such file or folder: nope", f"hint: looked in {tmp_path}"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["pusj", "./x", "m"], "did you mean push? assay --help shows all commands"),
        (["ls", "--bad"], "assay ls --help shows how"),
        (["push", "", "m"], "assay push --help shows how"),
        (["push", "./model", "m", "--metric", "auc"], "assay push --help shows how"),
    ],
)
def test_a_mistyped_command_is_one_line_a_hint_and_json_when_asked(
    run, model: Path, own_home: Path, arguments: list[str], hint: str
) -> None:
    status, out, error = run(*arguments)
    _, as_json, _ = run(*arguments, "--json")

    assert (status, out) == (64, "")
    assert [line.partition(":")[0] for line in error.splitlines()] == ["error", "hint"]
    assert error.splitlines()[1] == f"hint: {hint}"
    assert json.loads(as_json)["error"]["code"] == "usage"
    assert not own_home.exists()


def test_every_command_is_summed_up_in_whole_words(run) -> None:
    assert "..." not in ok(run("--help")).partition("Commands:")[2]


@pytest.mark.parametrize("words", ["push ~nobody-here/x m", "inspect ~nobody-here/x", "copy oci:~nobody-here/x:v1 m"])
def test_an_unknown_user_in_a_path_is_a_mistake_and_no_crash(run, words: str) -> None:
    status, out, _ = run(*words.split(), "--json")
    assert status == 2
    assert json.loads(out)["error"] == {
        "code": "path-not-found",
        "message": "no such user: ~nobody-here",
        "hint": "write ./~nobody-here/x for a file of that name",
    }


def test_an_unknown_user_in_a_path_to_scan_is_told(run) -> None:
    status, out, said = run("scan", "~nobody-here/x")
    assert status == 2
    assert "no such user: ~nobody-here" in out + said


def test_characters_that_steer_a_terminal_are_written_out(run, model: Path) -> None:
    ok(run("push", model, "m", "--note", "clear \x1b[2J\x1b]0;title \u202e"))

    out = ok(run("show", "m"))

    assert r"clear \x1b[2J\x1b]0;title \u202e" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "--json"), ("verify", "--all"), ("show", "none", "--json")])
def test_an_answer_that_cannot_be_written_is_no_success_and_no_crash(run, model: Path, arguments: tuple) -> None:
    ok(run("push", model, "m"))

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "assay", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none" in arguments or "could not be written to standard output: no space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(run, model: Path, closed: str) -> None:
    command = f'"{sys.executable}" -m assay push ./model m {closed} && "{sys.executable}" -m assay verify m {closed}'

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert ok(run("verify", "m")).startswith("ok m:1")


def test_what_is_there_and_no_registry_is_not_called_empty(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()

    assert run("--home", "file", "ls")[0] == 2
    assert run("--home", "folder", "ls", "--json")[0] == 2
    assert ok(run("--home", "empty", "ls", "--json")) == "[]\n"


def test_a_file_named_without_a_dot_is_offered_as_a_path(run, model: Path) -> None:
    ok(run("push", model, "m"))

    for name in ("model", "model/config.json"):
        status, _, error = run("inspect", name)
        assert status == 2
        assert f"hint: assay inspect ./{name} looks at the file or folder of that name here" in error


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["ls", "m:1"], "a model is named without a version or alias: m"),
        (["show", "./model"], "this takes the name of a model, not a path"),
        (["push", "./model", "m", "--alias", "two words"], "call it something like champion"),
    ],
)
def test_hints_about_names_fit_what_was_typed(run, model: Path, arguments: list[str], hint: str) -> None:
    ok(run("push", model, "m"))

    status, _, error = run(*arguments)

    assert status == 2
    assert error.splitlines()[-1] == f"hint: {hint}"


def test_what_verify_says_of_damage_fits_80_columns(run, model: Path, own_home: Path) -> None:
    ok(run("push", model, "m"))
    stored = own_home / "blobs/sha256" / Digest.of((model / "weights.bin").read_bytes()).hex
    stored.chmod(0o600)
    stored.write_bytes(b"x" * stored.stat().st_size)

    status, out, _ = run("verify", "m")

    assert status == 1
    assert "damaged: weights.bin  expected " in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_removed_current_folder_is_a_mistake_and_no_crash(run, model: Path, tmp_path: Path) -> None:
    ok(run("push", model, "m"))
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        f'cd "{gone}" && rmdir "{gone}" && for words in "ls m" "push ./x m" "pull m out" "--home here ls"; do '
        f'"{sys.executable}" -m assay $words; echo "exit $?"; done'
    )

    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)

    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == ["exit 0", *["exit 2"] * 3]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ("home = ", "hint: it is TOML, such as: home = '/data/models'"),
        ("hoem = 'x'", "hint: remove hoem from it"),
        ("home = 3", "hint: write the values in quotes"),
    ],
)
def test_a_broken_settings_file_says_what_to_write(run, tmp_path: Path, settings: str, hint: str) -> None:
    (tmp_path / "assay.toml").write_text(settings)

    status, _, error = run("ls")

    assert status == 2
    assert f"settings file {tmp_path / 'assay.toml'}" in error
    assert error.splitlines()[-1] == hint


def test_models_deep_in_a_folder_keep_the_end_of_their_path_on_one_line(run, tmp_path: Path) -> None:
    for name in ("first", "second"):
        folder = tmp_path / "model" / "a-long-folder-name-of-a-package" / "and-one-more-below-it" / name
        folder.mkdir(parents=True)
        weights = safetensors(**{name: ("F32", [2, 3], struct.pack("<6f", *range(6)))})
        (folder / "w.safetensors").write_bytes(weights)

    table = ok(run("inspect", "./model")).partition("In it\n")[2].splitlines()

    assert len(table) == 3
    assert [row.split()[1][-14:] for row in table[1:]] == ["/w.safetensors"] * 2
    assert {end for end in ("/first/", "/second/") if any(end in row for row in table)} == {"/first/", "/second/"}


@pytest.mark.parametrize("lost", ["the last line", "half of the last line", "everything"])
def test_reindex_goes_on_with_what_is_left_of_a_journal(run, model: Path, own_home: Path, lost: str) -> None:
    ok(run("push", model, "first"))
    ok(run("push", model, "second"))
    journal = own_home / "journal.jsonl"
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    keep = {"the last line": len(whole) - len(last) - 1, "half of the last line": len(whole) - len(last) // 2}
    journal.write_bytes(whole[: keep.get(lost, 0)])
    refused, _, error = run("ls")

    ok(run("reindex"))

    assert (refused, "assay reindex goes on with what is left" in error) == (2, True)
    listed = [found["name"] for found in json.loads(ok(run("ls", "--json")))]
    assert listed == ([] if lost == "everything" else ["first"])
    assert list((own_home / "backups").glob("rows-*/catalog.sqlite3"))


def test_a_reindex_that_cannot_be_done_leaves_rows_and_journal_alone(run, model: Path, own_home: Path) -> None:
    ok(run("push", model, "m"))
    rows = (own_home / "catalog.sqlite3").read_bytes()
    journal = b"{broken\n" + (own_home / "journal.jsonl").read_bytes()
    (own_home / "journal.jsonl").write_bytes(journal)

    assert run("reindex")[0] == 2

    assert (own_home / "journal.jsonl").read_bytes() == journal
    assert (own_home / "catalog.sqlite3").read_bytes()[:100] == rows[:100]


def test_a_model_of_more_files_than_may_be_open_by_custom_is_read_and_more_than_may_be_at_all_is_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "model").mkdir()
    for number in range(600):
        (tmp_path / "model" / f"{number}.json").write_text("{}")

    def inspect(limits: str) -> subprocess.CompletedProcess[str]:
        command = f"{limits} && exec {sys.executable} -m assay inspect --json {tmp_path}/model"
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True)

    assert inspect("ulimit -S -n 200").returncode == 0
    told = inspect("ulimit -n 200")
    assert told.returncode == 2
    assert json.loads(told.stdout)["error"]["code"] == "too-many-files"
    assert "ulimit -n" in told.stderr
    assert "Traceback" not in told.stderr
