"""Every command over a home in a bucket, in the order in which people use them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import assay
from assay.settings import read_settings
from assay.testing.catalog import everything
from assay.wiring.buckets import objects_of
from assay.wiring.places import open_registry


def test_an_empty_bucket_is_told_as_one_and_nothing_is_made_by_looking(home: str, run, answer) -> None:
    status, out, _ = run("ls")
    assert (status, out) == (0, "")
    assert run("show", "team/m")[0] == 2
    assert answer("show", "team/m", status=2)["error"]["code"] == "home-missing"
    assert list(objects_of(read_settings()).list("")) == []


def test_push_ls_show_promote_diff_pull_copy_history(home: str, run, answer, model, tmp_path: Path) -> None:
    first, second = model(1.0), model(2.0)
    assert run("push", first, "team/m", "--alias", "champion", "--metric", "auc=0.9", "--note", "first")[0] == 0
    assert answer("push", second, "team/m")["new"]
    assert not answer("push", second, "team/m")["new"]
    assert [row["version"] for row in answer("ls", "team/m")["versions"]] == [2, 1]
    assert answer("show", "team/m:champion")["reference"] == "team/m:1"
    assert run("promote", "team/m:2", "champion", "--reason", "better")[0] == 0
    assert answer("show", "team/m:champion")["reference"] == "team/m:2"
    assert run("rollback", "team/m", "champion", "--reason", "worse")[0] == 0
    assert answer("show", "team/m:champion")["reference"] == "team/m:1"
    assert run("diff", "team/m:1", "team/m:2")[0] in {0, 1}
    assert run("pull", "team/m:1", tmp_path / "out")[0] == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    kinds = [row["kind"] for row in answer("history", "team/m")]
    assert kinds.count("alias-moved") == 3
    assert kinds.count("version-added") == 2
    assert run("pin", "team/m:1", "--reason", "audit")[0] == 0
    assert run("unpin", "team/m:1", "--reason", "done")[0] == 0
    assert run("scan", "team/m:1")[0] == 0
    status, told, _ = run("du")
    assert status == 0
    assert "never delete" not in told  # what lies here is made from the bucket
    assert run("lineage", "team/m:1")[0] == 0
    assert run("bom", "team/m:1")[0] == 0
    assert run("copy", "team/m:1", f"oci:{tmp_path}/layout:v1")[0] == 0
    assert run("copy", f"oci:{tmp_path}/layout:v1", "team/back")[0] == 0
    assert answer("show", "team/back")["digest"] == answer("show", "team/m:1")["digest"]
    status, _, err = run("copy", "team/m", f"home:{tmp_path}/other", "--all", "--aliases")
    assert status == 0, err
    assert run("--home", tmp_path / "other", "verify", "--all")[0] == 0
    assert run("verify", "--all")[0] == 0


def test_a_folder_s_versions_are_copied_into_a_bucket(home: str, run, answer, model, tmp_path: Path) -> None:
    assert run("--home", tmp_path / "local", "push", model(1.0), "team/m", "--alias", "champion")[0] == 0
    status, _, err = run("--home", tmp_path / "local", "copy", "team/m", f"home:{home}", "--all", "--aliases")
    assert status == 0, err
    assert answer("show", "team/m:champion")["reference"] == "team/m:1"
    assert run("verify", "--all")[0] == 0


def test_evaluate_and_bisect_run_commands_on_what_lies_in_the_bucket(home: str, run, model) -> None:
    for value in (1.0, 2.0, 3.0):
        assert run("push", model(value), "team/m")[0] == 0
    command = ("sh", "-c", 'test -f "$0/model.safetensors" && echo "{\\"auc\\": 0.5}"', "{path}")
    assert run("evaluate", "team/m:1", "--dataset", "holdout", "--", *command)[0] == 0
    assert run("evaluate", "team/m:2", "--dataset", "holdout", "--metric", "auc=0.7")[0] == 0
    asked = ("sh", "-c", f'{sys.executable} -m assay show "$0" >/dev/null && test "$0" = team/m:1', "{ref}")
    status, out, err = run("bisect", "team/m", "--good", "1", "--bad", "3", "--", *asked)
    assert status == 0, err
    assert "team/m:2" in out


def test_import_reads_checkpoints_into_the_bucket_and_knows_them_again(
    home: str, run, answer, model, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for number in (1, 2):
        save_file({"w": np.full(4, number, np.float32)}, runs / f"step-{number}.safetensors")
    assert run("import", runs, "team/net")[0] == 0
    assert [row["known"] for row in answer("import", runs, "team/net")["versions"]] == [True, True]
    assert [row["version"] for row in answer("ls", "team/net")["versions"]] == [2, 1]


def test_gc_frees_what_was_removed_and_purge_what_was_leaked(home: str, run, answer, model) -> None:
    for value in (1.0, 2.0, 3.0):
        assert run("push", model(value), "team/m")[0] == 0
    assert run("remove", "team/m:1", "--reason", "old", "--yes")[0] == 0
    assert run("purge", "team/m:2", "--reason", "leaked", "--yes")[0] == 0
    freed = answer("gc", "--grace", "0", "--yes")
    assert freed["freed"] > 16000
    assert run("verify", "--all")[0] == 0
    assert run("pull", "team/m:2", "/nonexistent")[0] == 2
    assert answer("gc", "--grace", "0", "--yes")["freed"] == 0


def test_reindex_after_the_local_folder_was_lost_gives_the_same_rows(
    owned: str, run, answer, model, tmp_path: Path
) -> None:
    for value in (1.0, 2.0):
        assert run("push", model(value), "team/m", "--alias", "champion", "--note", f"{value}")[0] == 0
    assert run("yank", "team/m:1", "--reason", "labels")[0] == 0
    before = everything(open_registry(read_settings()).catalog)
    shutil.rmtree(tmp_path / "machine-1")
    assert everything(open_registry(read_settings()).catalog) == before
    events = answer("reindex")
    assert events == {"events": len(before["events"]), "took_over": False}
    assert everything(open_registry(read_settings()).catalog) == before
    assert answer("push", model(3.0), "team/m", status=2)["error"]["code"] == "bucket-has-writer"
    assert answer("reindex", "--take-over", "--yes")["took_over"]
    assert run("push", tmp_path / "model-3.0", "team/m")[0] == 0
    assert [row["version"] for row in answer("ls", "team/m")["versions"]] == [3, 2, 1]


def test_another_machine_reads_everything_and_writes_nothing(
    owned: str, run, answer, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model(1.0)
    assert run("push", first, "team/m", "--alias", "champion")[0] == 0
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
    before = {one.key for one in objects_of(read_settings()).list("")}
    assert answer("show", "team/m:champion")["reference"] == "team/m:1"
    assert run("pull", "team/m:1", tmp_path / "out")[0] == 0
    assert run("verify", "--all")[0] == 0
    assert run("diff", "team/m:1", first)[0] == 0
    assert run("inspect", "team/m:1")[0] == 0
    assert run("reindex")[0] == 0
    assert np.asarray(assay.load("team/m:1")["encoder.w"]).shape == (64, 64)
    for command in (
        ("push", model(2.0), "team/m"),
        ("promote", "team/m:1", "beta"),
        ("evaluate", "team/m:1", "--metric", "auc=0.7"),
        ("yank", "team/m:1", "--reason", "x"),
        ("purge", "team/m:1", "--reason", "x", "--yes"),
        ("gc", "--grace", "0", "--yes"),
        ("import", first, "team/n"),
    ):
        status, out, err = run(*command)
        assert status == 2 or (command[0] == "gc" and status == 0), (command, out, err)
        assert "is written by" in err or command[0] == "gc", (command, err)
    assert {one.key for one in objects_of(read_settings()).list("")} == before


def test_another_machine_sees_what_the_writer_did_since(
    home: str, run, answer, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", model(1.0), "team/m")[0] == 0
    for value, expected in ((2.0, 2), (3.0, 3)):
        monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
        assert answer("show", "team/m")["reference"] == f"team/m:{expected - 1}"
        monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-1"))
        assert run("push", model(value), "team/m")[0] == 0


def test_the_rules_of_a_bucket_bind_every_machine(
    home: str, run, answer, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("push", model(1.0), "team/m")[0] == 0
    objects = objects_of(read_settings())
    objects.put("promotion.toml", b"[[promotion]]\nalias = 'champion'\napprovals = 1\n")
    assert run("promote", "team/m:1", "champion")[0] == 1
    objects.put("promotion.toml", b"[[promotion]]\nalias = 'other'\napprovals = 1\n")
    assert run("promote", "team/m:1", "champion")[0] == 0
    objects.put("policy.toml", b"[[")
    assert answer("push", model(2.0), "team/m", status=2)["error"]["code"] == "bad-policy"
    objects.delete("policy.toml")
    assert run("push", tmp_path / "model-2.0", "team/m")[0] == 0
    objects.put("retention.toml", b"[[")
    assert run("gc")[0] == 2
    monkeypatch.setenv("ASSAY_STATE", str(tmp_path / "machine-2"))
    assert run("gc")[0] == 2


def test_the_api_takes_a_bucket_as_its_home(home: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_REGISTRY")
    version = assay.push(model(1.0), "team/m", alias="champion", home=home)
    assert version.reference == "team/m:1"
    loaded = assay.load("team/m:champion", home=home)
    assert np.asarray(loaded["encoder.w"])[0, 0] == 1.0
    with assay.open("team/m:1", home=home) as artifact:
        assert np.asarray(artifact.tensors["encoder.w"])[3, 4] == 1.0
    assert [found.number for found in assay.versions("team/m", home=home)] == [1]
    assert assay.pull("team/m:1", tmp_path / "out", home=home) == tmp_path / "out"


@pytest.mark.framework
@pytest.mark.parametrize("home", ["folder"], indirect=True)  # how a load gets its bytes is tested on each, above
def test_frameworks_load_from_a_bucket(home: str, tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression
    from transformers import BertConfig, BertModel

    fitted = LinearRegression().fit(np.arange(6).reshape(3, 2), np.arange(3))
    assay.push(fitted, "team/linear")
    assert np.allclose(assay.load("team/linear").coef_, fitted.coef_)
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=16)
    BertModel(config).save_pretrained(tmp_path / "bert")
    assay.push(tmp_path / "bert", "team/bert")
    assert assay.load("team/bert").config.hidden_size == 8
    assert assay.load("team/bert").config.vocab_size == 16  # from the snapshot of the first time


def test_what_lies_in_a_prefix_already_is_not_made_a_registry(home: str, run, answer, model) -> None:
    objects_of(read_settings()).put("photos/1.jpg", b"?")
    assert answer("push", model(1.0), "team/m", status=2)["error"]["code"] == "not-a-home"


def test_a_lost_or_newer_marker_is_told(home: str, run, answer, model) -> None:
    assert run("push", model(1.0), "team/m")[0] == 0
    objects = objects_of(read_settings())
    marker = objects.get("assay.json")
    for damaged, code in ((b"{", "home-damaged"), (marker.replace(b'"format":1', b'"format":9'), "home-too-new")):
        objects.put("assay.json", damaged)
        assert answer("ls", status=2)["error"]["code"] == code
    objects.delete("assay.json")
    assert answer("push", model(2.0), "team/m", status=2)["error"]["code"] == "home-damaged"
    objects.put("assay.json", marker)
    assert run("verify", "--all")[0] == 0


def test_a_bucket_that_was_made_anew_does_not_show_the_old_names(home: str, run, answer, model, tmp_path: Path) -> None:
    assert run("push", model(1.0), "team/old")[0] == 0
    objects = objects_of(read_settings())
    objects.delete(*[one.key for one in objects.list("")])
    assert run("push", model(2.0), "team/new")[0] == 0
    assert [row["name"] for row in answer("ls")] == ["team/new"]
    assert len([found for found in (tmp_path / "machine-1").iterdir() if ".was-" in found.name]) == 1


def test_take_over_asks_and_is_for_buckets(home: str, run, tmp_path: Path, model) -> None:
    assert run("push", model(1.0), "team/m")[0] == 0
    assert run("reindex", "--take-over")[0] == 64  # nobody can be asked here
    assert run("--home", tmp_path / "folder", "reindex", "--take-over", "--yes")[0] == 64
