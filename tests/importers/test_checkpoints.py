"""Folders of checkpoints: the order of versions is what their names tell."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import NotFound
from assay.importers.checkpoints import CheckpointFolder, dated, in_order

FIRST = datetime.fromisoformat("2000-01-01")


def made(folder: Path, *names: str) -> list[str]:
    """Write files in an order that says nothing, and list them as the importer does."""
    folder.mkdir(exist_ok=True)
    for name in sorted(names, key=hash):
        (folder / name).write_text(name)
    return [offered.label for offered in CheckpointFolder(folder).offered()]


def test_dated_checkpoints_come_in_the_order_of_their_dates(tmp_path: Path) -> None:
    names = ["model-20260105.pt", "b_2026-01-31_0900.pt", "a_2026-01-31_1830.pt", "new 2026.02.01.pt"]
    assert made(tmp_path / "c", *names) == names


def test_numbered_checkpoints_come_in_the_order_of_their_numbers_not_of_their_letters(tmp_path: Path) -> None:
    assert made(tmp_path / "a", "checkpoint-500", "checkpoint-1000", "checkpoint-9") == [
        "checkpoint-9",
        "checkpoint-500",
        "checkpoint-1000",
    ]
    assert made(tmp_path / "b", "v1.10.pkl", "v1.9.pkl", "v1.9.1.pkl") == ["v1.9.pkl", "v1.9.1.pkl", "v1.10.pkl"]


def test_a_metric_in_a_name_is_a_metric_and_no_order(tmp_path: Path) -> None:
    names = ["epoch=2-val_loss=0.90.ckpt", "epoch=10-val_loss=0.10.ckpt"]
    assert made(tmp_path / "c", *names) == names
    offered = list(CheckpointFolder(tmp_path / "c").offered())
    assert offered[1].metrics == {"val_loss": 0.10}
    assert offered[1].params == {"epoch": 10}


def test_checkpoints_without_dates_and_numbers_come_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    for age, name in ((3, "best"), (1, "latest"), (2, "middle")):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    assert [offered.label for offered in CheckpointFolder(tmp_path).offered()] == ["best", "middle", "latest"]


def test_a_checkpoint_may_be_a_folder_and_hidden_files_are_left_out(tmp_path: Path, read) -> None:
    (tmp_path / "checkpoint-1" / "sub").mkdir(parents=True)
    (tmp_path / "checkpoint-1" / "sub" / "w.bin").write_bytes(b"1")
    (tmp_path / "checkpoint-2").write_bytes(b"2")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    found = read(CheckpointFolder(tmp_path, model="net"))
    assert {key: files for key, (_, files) in found.items()} == {
        ("net", "checkpoint-1"): {"sub/w.bin": b"1"},
        ("net", "checkpoint-2"): {"checkpoint-2": b"2"},
    }


def test_an_empty_or_missing_folder_is_said_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFound) as caught:
            list(CheckpointFolder(folder).offered())
        assert caught.value.code == "import-source-missing"


@given(
    st.dates(min_value=date(1990, 1, 1), max_value=date(2089, 12, 31)),
    st.sampled_from(["", "-", "_", "."]),
    st.sampled_from(["model{}", "{}.pt", "run-{}-final.ckpt"]),
)
def test_a_date_is_read_in_every_way_it_is_written(day: date, between: str, form: str) -> None:
    found = dated(form.format(day.strftime(f"%Y{between}%m{between}%d")))
    assert found == datetime(day.year, day.month, day.day, tzinfo=UTC)


@given(st.lists(st.datetimes(min_value=FIRST), min_size=1, max_size=8, unique=True))
def test_sorting_by_dates_in_names_is_sorting_by_time(moments: list[datetime]) -> None:
    minutes = {moment.replace(second=0, microsecond=0) for moment in moments}
    names = [Path(f"{moment:%Y-%m-%dT%H:%M}.pt") for moment in minutes]
    assert in_order(names) == sorted(names)
    assert timedelta(0) == dated("2026-01-01").utcoffset()


def test_of_what_hugging_faces_trainer_leaves_only_its_checkpoints_are_versions_with_the_metrics_of_their_step(
    tmp_path: Path,
) -> None:
    history = [
        {"step": 500, "epoch": 1.0, "loss": 0.9, "learning_rate": 1e-4},
        {"step": 1000, "epoch": 2.0, "loss": 0.5},
        {"step": 1000, "epoch": 2.0, "eval_loss": 0.6, "eval_f1": float("nan"), "best": "yes"},
    ]
    for step in (500, 1000):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        state = {"global_step": step, "epoch": step / 500, "max_steps": 1000, "log_history": history}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "runs").mkdir()
    first, second = CheckpointFolder(tmp_path).offered()
    assert (first.label, second.label) == ("checkpoint-500", "checkpoint-1000")
    assert first.metrics == {"loss": 0.9, "learning_rate": 1e-4}
    assert second.metrics == {"loss": 0.5, "eval_loss": 0.6}
    assert second.params == {"global_step": 1000, "epoch": 2, "max_steps": 1000}


@pytest.mark.parametrize("state", ["", "[]", "{", '{"log_history": 3}', '{"log_history": [1, {}]}', "[" * 9999])
def test_a_state_that_says_nothing_is_a_file_like_any_other(tmp_path: Path, read, state: str) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text(state)
    ((offered, files),) = read(CheckpointFolder(tmp_path)).values()
    assert (offered.metrics, list(files)) == ({}, ["trainer_state.json"])


def test_a_link_that_leads_nowhere_is_told_and_does_not_stop_the_rest(tmp_path: Path, unreadable) -> None:
    (tmp_path / "good").write_bytes(b"1")
    (tmp_path / "latest").symlink_to(tmp_path / "gone")
    assert list(unreadable(CheckpointFolder(tmp_path))) == ["latest"]
