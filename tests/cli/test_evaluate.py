"""``assay evaluate`` and ``assay show NAME --metrics``: what was measured, recorded later and compared across versions."""

from __future__ import annotations

import csv
import json
import os
import signal
from io import StringIO
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import assay
from assay.errors import InvalidInput

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def versions(tmp_path: Path):
    """``versions(metrics, …)``: versions of ``m`` with metrics given at push."""

    def do(*metrics: dict[str, float]) -> None:
        for number, given in enumerate(metrics):
            (tmp_path / "model.txt").write_text(str(number))
            assay.push(tmp_path / "model.txt", "m", metrics=given)

    return do


def metrics(run) -> dict:
    status, out, _ = run("show", "m", "--metrics", "--json")
    assert status == 0
    return json.loads(out)


def test_what_was_measured_is_recorded_once_and_shown(run, versions) -> None:
    versions({})
    arguments = ("evaluate", "m:1", "--metric", "auc=0.93", "--metric", "f1=0.5", "--dataset", "holdout-2026-11")

    first, again = run(*arguments), run(*arguments)

    assert first == (0, "m:1 auc=0.93 f1=0.5\n", "recorded on holdout-2026-11\n")
    assert again[0] == 0
    assert "already recorded" in again[2]
    assert [column["label"] for column in metrics(run)["columns"]] == ["auc@holdout-2026-11", "f1@holdout-2026-11"]


def test_what_evaluate_says_as_json_is_pinned(run, versions) -> None:
    versions({})

    status, out, _ = run(
        "evaluate", "m", "--metric", "auc=0.93", "--dataset", "d", "--dataset-digest", DIGEST, "--note", "n",
        "--run", "mlflow://r/1", "--json",
    )  # fmt: skip

    body = json.loads(out)
    assert status == 0
    assert set(body) == {"reference", "digest", "metrics", "dataset", "dataset_digest", "note", "run", "at", "new"}
    assert body["at"].endswith("Z")
    assert {key: body[key] for key in ("reference", "metrics", "dataset", "dataset_digest", "note", "run", "new")} == {
        "reference": "m:1",
        "metrics": {"auc": 0.93},
        "dataset": "d",
        "dataset_digest": DIGEST,
        "note": "n",
        "run": "mlflow://r/1",
        "new": True,
    }


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ((), 64, "usage"),
        (("--metric", "auc"), 64, "usage"),
        (("--metric", "auc=high"), 64, "usage"),
        (("--metric", "auc=nan"), 2, "bad-metric"),
        (("--metric", "auc=1", "--dataset", ""), 2, "bad-dataset"),
        (("--metric", "auc=1", "--dataset-digest", DIGEST), 2, "bad-dataset"),
        (("--metric", "auc=1", "--dataset", "d", "--dataset-digest", "md5:1"), 2, "invalid-digest"),
        (("--", "false"), 2, "evaluation-failed"),
        (("--", "true"), 2, "no-metrics"),
        (("--", "echo", "[1]"), 2, "no-metrics"),
        (("--", "echo", "{}"), 2, "no-metrics"),
        (("--", "echo", '{"auc": "high"}'), 2, "no-metrics"),
        (("--", "echo", '{"auc": NaN}'), 2, "no-metrics"),
        (("--", "./nowhere"), 2, "command-not-started"),
    ],
)
def test_what_is_no_evaluation_is_told_and_nothing_is_recorded(
    run, versions, arguments, status: int, code: str
) -> None:
    versions({})

    found, out, _ = run("evaluate", "m:1", "--json", *arguments)

    assert found == status
    assert json.loads(out)["error"]["code"] == code
    assert metrics(run)["columns"] == []


def test_a_command_measures_a_private_copy_and_its_last_line_is_recorded(
    run, versions, tmp_path: Path, own_home: Path
) -> None:
    versions({}, {})
    (tmp_path / "measure.sh").write_text(
        '#!/bin/sh\necho working; echo "{\\"length\\": $(wc -c < "$1")}"; echo; echo x >> "$1"; echo "$ASSAY_EVALUATE_VERSION" > seen\n'
    )
    (tmp_path / "measure.sh").chmod(0o755)

    status, out, err = run("evaluate", "m:2", "--dataset", "d", "--metric", "auc=0.5", "--", "./measure.sh", "{file}")

    assert (status, out) == (0, "m:2 length=1 auc=0.5\n")
    assert "working" in err
    assert (tmp_path / "seen").read_text() == "2\n"
    assert run("verify", "--all")[0] == 0
    assert list((own_home / "trials").iterdir()) == []


def test_a_command_that_prints_without_end_of_line_or_very_much_is_still_heard(run, versions) -> None:
    versions({})

    status, out, _ = run("evaluate", "m", "--", "sh", "-c", "seq 200000; printf '{\"auc\": 0.25}'")

    assert (status, out) == (0, "m:1 auc=0.25\n")


def test_what_a_command_leaves_running_is_not_waited_for(run, versions, tmp_path: Path) -> None:
    versions({})
    left = "sleep 30 & echo $! > pid; echo '{\"auc\": 0.5}'"

    status, _, err = run("evaluate", "m:1", "--dataset", "d", "--", "sh", "-c", left)

    assert status == 0, err
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it is still there
    assert metrics(run)["versions"][0]["values"][0]["value"] == 0.5


def test_the_table_as_json_is_pinned(run, versions) -> None:
    versions({"auc": 0.9}, {"auc": 0.8}, {})
    number, flag, text = {"type": "number"}, {"type": "boolean"}, {"type": "string"}
    maybe = {"type": ["string", "null"]}

    body = metrics(run)

    cell = {
        "type": ["object", "null"],
        "properties": {"value": number, "delta": {"type": ["number", "null"]}, "best": flag},
        "required": ["value", "delta", "best"],
        "additionalProperties": False,
    }
    column = {
        "properties": {
            "label": text,
            "metric": text,
            "dataset": maybe,
            "dataset_digest": maybe,
            "lower_is_better": flag,
        },
        "required": ["label", "metric", "dataset", "dataset_digest", "lower_is_better"],
        "additionalProperties": False,
    }
    jsonschema.validate(
        body,
        {
            "properties": {
                "name": text,
                "columns": {"items": column, "minItems": 1},
                "versions": {
                    "items": {"required": ["reference", "version", "values"], "properties": {"values": {"items": cell}}}
                },
            },
            "required": ["name", "columns", "versions"],
            "additionalProperties": False,
        },
    )
    assert [row["values"] for row in body["versions"]] == [
        [None],
        [{"value": 0.8, "delta": 0.8 - 0.9, "best": False}],
        [{"value": 0.9, "delta": None, "best": True}],
    ]


def test_the_table_marks_the_best_shows_aliases_and_fits_the_terminal(run, versions) -> None:
    versions({"auc": 0.9, "val_loss": 0.25}, {"auc": 0.8, "val_loss": 0.5})
    for at in range(6):
        assay.evaluate("m:1", {"accuracy": at / 10}, dataset=f"a-data-set-with-a-long-name-{at}")
    assay.push(Path("model.txt"), "m", alias="champion")

    status, out, _ = run("show", "m", "--metrics")

    lines = out.splitlines()
    assert status == 0
    assert max(map(len, lines)) <= 80
    assert "2 champion" in out
    assert sum(line.startswith("Version") for line in lines) > 1  # several tables, one below the other
    first = next(line for line in lines if line.startswith("1 "))
    assert first.split() == ["1", "0", "★", "0.1", "★"]  # accuracy on the first two datasets


def test_the_card_of_a_version_shows_the_latest_number_per_dataset(run, versions) -> None:
    versions({"auc": 0.5})
    for value, dataset in ((0.25, "d"), (0.75, "d"), (0.125, "e")):
        assay.evaluate("m:1", {"auc": value}, dataset=dataset)

    _, out, _ = run("show", "m:1")

    assert "Measured" in out
    assert "auc 0.75  on d" in out
    assert "auc 0.125  on e" in out
    assert "0.25 " not in out


def test_the_table_as_csv_has_a_line_per_version_and_every_digit(run, versions) -> None:
    versions({"auc": 0.1 + 0.2}, {"a,b": 1.0})

    status, out, _ = run("show", "m", "--metrics", "--csv")

    rows = list(csv.DictReader(StringIO(out)))
    assert status == 0
    assert [row["version"] for row in rows] == ["2", "1"]
    assert [row["auc"] for row in rows] == ["", "0.30000000000000004"]
    assert [row["a,b"] for row in rows] == ["1.0", ""]


@pytest.mark.parametrize(
    "arguments",
    [
        ("m", "--csv"),
        ("m", "--limit", "1"),
        ("m", "--lower-is-better", "auc"),
        ("m:1", "--metrics"),
        ("m", "--metrics", "--files"),
        ("m", "--metrics", "--csv", "--json"),
    ],
)
def test_options_of_the_table_go_with_it_and_with_a_model(run, versions, arguments: tuple[str, ...]) -> None:
    versions({"auc": 0.5})

    assert run("show", *arguments)[0] == 64


def test_a_model_without_metrics_says_how_to_record_some(run, versions) -> None:
    versions({})

    status, out, err = run("show", "m", "--metrics")

    assert (status, out) == (0, "")
    assert "assay evaluate m --metric" in err


def test_in_python_an_evaluation_takes_what_libraries_return(versions) -> None:
    versions({})

    said = assay.evaluate("m:1", {"auc": np.float32(0.5)}, dataset="d", run="r")

    assert (said.metrics, said.dataset, said.run) == ({"auc": 0.5}, "d", "r")
    assert assay.metrics("m")["versions"][0]["values"][0]["value"] == 0.5


@pytest.mark.parametrize(
    ("metrics", "options"), [({}, {}), (None, {}), ({"auc": "high"}, {}), ([0.5], {}), ({"auc": 1}, {"dataset": 3})]
)
def test_in_python_what_is_no_evaluation_is_refused(versions, metrics, options) -> None:
    versions({})

    with pytest.raises(InvalidInput):
        assay.evaluate("m:1", metrics, **options)


def test_evaluations_travel_with_a_copy(run, versions, tmp_path: Path) -> None:
    versions({})
    assay.evaluate("m:1", {"auc": 0.5}, dataset="d")
    assay.evaluate("m:1", {"auc": 0.25}, dataset="d")
    run("copy", "m:1", f"oci:{tmp_path}/layout:v1")

    status, _, err = run("--home", tmp_path / "other", "copy", f"oci:{tmp_path}/layout:v1", "m")

    assert status == 0, err
    assert assay.metrics("m", home=tmp_path / "other")["versions"][0]["values"][0]["value"] == 0.25
