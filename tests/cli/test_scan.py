"""``assay scan`` for people, for scripts, and for the machines of others."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT
from model_files import safetensors

SAFE = safetensors(weight=("F32", [2, 3], struct.pack("<6f", *range(6))))
UNSAFE = b'{"model_type": "x", "architectures": ["X"], "auto_map": {"AutoModel": "modeling_x.X"}}'


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASSAY_ACTOR", "tester")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safe.safetensors").write_bytes(SAFE)
    (tmp_path / "odd one.safetensors").write_bytes(SAFE + b"more bytes than there should be")
    (tmp_path / "unsafe").mkdir()
    (tmp_path / "unsafe/config.json").write_bytes(UNSAFE)
    (tmp_path / "unsafe/modeling_x.py").write_text("class X: pass\n")
    (tmp_path / "unsafe/model.safetensors").write_bytes(SAFE)
    return tmp_path


@pytest.mark.parametrize(
    ("targets", "status"),
    [
        (["./safe.safetensors"], 0),
        (["./unsafe"], 1),
        (["./odd one.safetensors"], 2),
        (["./nowhere"], 2),
        (["./odd one.safetensors", "./unsafe", "./safe.safetensors"], 1),
        (["./odd one.safetensors", "./safe.safetensors"], 2),
        ([], 64),
        (["--all", "./unsafe"], 64),
        (["--json", "--sarif", "./unsafe"], 64),
    ],
)
def test_the_exit_status_tells_safe_from_unsafe_from_unknown(run, targets: list[str], status: int) -> None:
    assert run("scan", *targets)[0] == status


def test_a_person_reads_the_verdict_first_then_why_and_what_to_do(run) -> None:
    _, out, _ = run("scan", "./unsafe")
    first, *rest = out.splitlines()

    assert re.match(r"unsafe  ./unsafe  Loading this runs code from the artifact itself", first)
    assert "huggingface-auto-map" in " ".join(rest)
    assert "Read the code." in " ".join(rest)
    assert max(map(len, rest)) <= 80


def test_verbose_shows_the_policy_and_the_rules(run) -> None:
    _, out, err = run("scan", "-v", "./safe.safetensors")

    assert out.startswith("safe  ")
    assert re.search(r"safetensors · 1 file, .* · policy default \([0-9a-f]{12}\)", err)
    assert re.search(r"rules .*\+[0-9a-f]{12}", err)


def test_words_that_are_no_paths_can_be_meant_as_paths(run) -> None:
    status, _, err = run("scan", "safe.safetensors")
    assert status == 2
    assert "assay scan ./safe.safetensors looks at the file" in err
    assert run("scan", "--files", "safe.safetensors")[0] == 0


def test_json_of_one_target_is_its_result_and_of_several_a_list(run) -> None:
    one = json.loads(run("scan", "--json", "./unsafe")[1])
    two = json.loads(run("scan", "--json", "./unsafe", "./nowhere")[1])["results"]

    assert one["verdict"] == "unsafe"
    assert one["refused"][0]["because"] == "severity execute in policy default"
    assert two[0] == one
    assert two[1]["error"]["code"] == "path-not-found"


def test_sarif_names_every_rule_it_uses_and_where_things_lie(run) -> None:
    status, out, _ = run("scan", "--sarif", "./odd one.safetensors", "./unsafe", "./nowhere")
    log = json.loads(out)
    (found,) = log["runs"]
    rules = {rule["id"]: rule for rule in found["tool"]["driver"]["rules"]}

    assert (status, log["version"]) == (1, "2.1.0")
    assert {result["ruleId"] for result in found["results"]} == set(rules)
    assert all(rule["help"]["text"] and rule["fullDescription"]["text"] for rule in rules.values())
    assert {result["level"] for result in found["results"]} <= {"none", "note", "warning", "error"}
    places = {result["ruleId"]: result["locations"][0]["physicalLocation"] for result in found["results"]}
    assert places["safetensors-trailing-bytes"]["artifactLocation"]["uri"] == "odd%20one.safetensors"
    assert places["huggingface-auto-map"]["artifactLocation"]["uri"] == "unsafe/config.json"
    assert found["invocations"][0]["executionSuccessful"] is False
    assert "nowhere" in found["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_annotations_are_commands_that_a_workflow_reads(run) -> None:
    _, out, _ = run("scan", "--github", "./unsafe", "./nowhere")

    assert re.search(r"^::error file=unsafe/config\.json,title=assay%3A huggingface-auto-map::", out, re.MULTILINE)
    assert "::error file=./nowhere,title=assay::" in out
    assert all(
        re.fullmatch(r"::(error|warning|notice) file=[^,:]+,title=[^,:]+::.*", line) for line in out.splitlines()
    )


def test_all_versions_are_scanned_and_summed_up(run) -> None:
    run("push", "./safe.safetensors", "a")
    run("push", "./unsafe", "b")
    status, out, err = run("scan", "--all")

    assert status == 1
    assert "safe  a:1" in out
    assert "unsafe  b:1" in out
    assert "2 targets: 1 safe, 1 unsafe" in err


def test_show_says_what_the_audit_said(run) -> None:
    run("push", "./unsafe", "b")

    _, out, _ = run("show", "b")

    assert "unsafe by policy default: Loading this runs code" in " ".join(out.split())


def test_push_says_at_once_what_is_wrong_with_it(run) -> None:
    status, _, err = run("push", "./unsafe", "b")

    assert status == 0
    assert "unsafe: Loading this runs code from the artifact itself" in err
    assert "rule huggingface-auto-map" in err


def test_a_strict_policy_fails_the_push_and_says_where_the_files_are(run) -> None:
    status, _, err = run("push", "./unsafe", "b", "--policy", "strict")

    assert status == 1
    assert "the files are kept as quarantine/b:1" in " ".join(err.split())
    assert run("show", "b")[0] == 2


def test_pull_with_required_audit_writes_nothing_unsafe(run, tmp_path: Path) -> None:
    run("push", "./unsafe", "b")

    assert run("pull", "b", "out", "--require-audit")[0] == 1
    assert not (tmp_path / "out").exists()
    assert run("pull", "b", "out")[0] == 0


def test_a_policy_that_is_not_there_or_wrong_is_one_clear_error(run, tmp_path: Path) -> None:
    assert (
        "no policy nope: expected default, strict, audit-only or a file"
        in run("scan", "./unsafe", "--policy", "nope")[2]
    )
    (tmp_path / "p.toml").write_text("[severity]\nexecute = 'allow'\n")
    status, _, err = run("scan", "./unsafe", "./safe.safetensors", "--policy", "p.toml")
    assert (status, err.count("error:")) == (2, 1)
    assert "severity execute must be refuse" in err


def test_names_that_steer_a_terminal_are_written_out(run, tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[2J.safetensors").write_bytes(SAFE)

    assert "\x1b" not in run("scan", "--files", "evil\x1b[2J.safetensors", "-v")[1]


# What other people's systems read


def test_the_pre_commit_hook_runs_what_it_says(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    command = [str(Path(sys.executable).with_name("assay")), *hook["entry"].split()[1:]]

    assert hook["entry"].split()[0] == "assay"
    assert all(
        re.search(hook["files"], name) for name in ("m/model.safetensors", "a.pkl", "x.pt", "b/pytorch_model.bin")
    )
    assert not any(re.search(hook["files"], name) for name in ("README.md", "train.py", "pickle.py"))
    assert subprocess.run([*command, "safe.safetensors"], cwd=tmp_path, capture_output=True).returncode == 0
    assert subprocess.run([*command, "safe.safetensors", "unsafe"], cwd=tmp_path, capture_output=True).returncode == 1


@pytest.mark.parametrize(("targets", "status"), [("safe.safetensors", 0), ("safe.safetensors unsafe", 1)])
def test_the_github_action_fails_when_something_is_not_safe(tmp_path: Path, targets: str, status: int) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    script = action["runs"]["steps"][-1]["run"]
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TARGETS": targets,
        "POLICY": action["inputs"]["policy"]["default"],
        "SARIF": "out.sarif",
    }
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert done.returncode == status
    assert ("::error file=unsafe/config.json" in done.stdout) is bool(status)
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"


def test_the_gitlab_template_is_a_job(tmp_path: Path) -> None:
    job = yaml.safe_load((ROOT / "ci/gitlab/assay-scan.yml").read_text())["assay-scan"]
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **job["variables"],
        "ASSAY_TARGETS": "unsafe",
    }
    steps = [line for line in job["script"] if "pip install" not in line]
    done = [subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environ, capture_output=True) for line in steps]

    assert [step.returncode for step in done] == [0, 1]
    assert json.loads((tmp_path / "assay.sarif").read_text())["runs"]
