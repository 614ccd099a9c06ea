"""Registries that other people's tools made and serve: MLflow behind its own server, DVC and GTO in git.

Run by ``.ci/run``, which installs them; ``ASSAY_MLFLOW`` and ``ASSAY_DVC`` name the folders of their executables.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore", "DVC_NO_ANALYTICS": "true"}
LOG = """
import sys, mlflow, numpy as np
from pathlib import Path
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
for strength in (1.0, 2.0):
    with mlflow.start_run():
        mlflow.log_param("C", strength)
        mlflow.log_metric("auc", 0.8 + strength / 100)
        model = LogisticRegression(C=strength).fit(np.eye(4)[:, :2], [0, 1, 0, 1])
        mlflow.sklearn.log_model(model, name="m", registered_model_name="it's a model",
                                 serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
run = client.create_run("0").info.run_id
Path("deep.bin").write_bytes(b"deep" * 1000)
client.log_artifact(run, "deep.bin", "folder/in a folder/größe")
client.create_registered_model("plain")
client.create_model_version("plain", f"runs:/{run}/folder", run)
client.set_registered_model_alias("it's a model", "champion", 1)
client.set_model_version_tag("plain", "1", "team", "risk")
"""


def execute(command: list[object], folder: Path, **environ: str) -> str:
    environment = {**os.environ, **QUIET, **environ}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def assay(tmp_path: Path) -> Callable[..., str]:
    def do(*arguments: object) -> str:
        return execute([sys.executable, "-m", "assay", *arguments], tmp_path, ASSAY_HOME=str(tmp_path / "home"))

    return do


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server that hands artifacts out itself, with two models in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    tool = Path(os.environ["ASSAY_MLFLOW"]) / "mlflow"
    command = [
        str(tool), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts",
        "--backend-store-uri", f"sqlite:///{tmp_path}/served.db", "--artifacts-destination", str(tmp_path / "served"),
    ]  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **QUIET}, stdout=log, stderr=log)
        try:
            wait_for(f"{address}/health", process, tmp_path / "server.log")
            execute([sys.executable, "-c", LOG, address], tmp_path)
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def test_a_registry_behind_an_mlflow_server_imports_completely(assay, server: str, tmp_path: Path) -> None:
    done = json.loads(assay("import", server, "--json"))
    found = {(row["model"], row["version"]): row for row in done["versions"]}
    assert sorted(found) == [("it's a model", "1"), ("it's a model", "2"), ("plain", "1")]
    assert found["it's a model", "1"]["reference"] == "it-s-a-model:1"
    assert found["it's a model", "1"]["aliases"] == ["champion"]
    assert not any(row["error"] for row in found.values())

    card = json.loads(assay("show", "it-s-a-model:2", "--json"))
    said = {item["kind"]: item["predicate"] for item in card["statements"]}
    assert said["params"] == {"params": {"C": 2.0}}
    assert said["metrics"]["metrics"] == pytest.approx({"auc": 0.82})
    assert card["description"]["summary"]["architecture"] == "LogisticRegression"

    assay("pull", "plain:1", "out")
    assert (tmp_path / "out/in a folder/größe/deep.bin").read_bytes() == b"deep" * 1000
    again = json.loads(assay("import", server, "--json"))
    assert all(row["known"] for row in again["versions"])

    # The same out of its database, while it runs: it says what the server would hand out, not where it lies.
    behind = ["import", tmp_path / "served.db", "--prefix", "db/", "--artifacts", tmp_path / "served", "--json"]
    direct = {(row["model"], row["version"]): row for row in json.loads(assay(*behind))["versions"]}
    assert {key: row["digest"] for key, row in direct.items()} == {key: row["digest"] for key, row in found.items()}


def test_what_dvc_and_gto_registered_imports_with_versions_stages_and_checksums(assay, tmp_path: Path) -> None:
    tools = Path(os.environ["ASSAY_DVC"])
    folder = tmp_path / "repository"
    folder.mkdir()
    who = {f"GIT_{role}_{field}": "ada" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    path = {"PATH": f"{tools}:{os.environ['PATH']}", **who}
    execute(["git", "init", "--quiet"], folder)
    execute([tools / "dvc", "init", "--quiet"], folder, **path)
    stage = {"cmd": "cp source.bin clf.bin", "deps": ["source.bin"], "outs": ["clf.bin"], "params": ["lr"]}
    artifacts = {"clf": {"path": "clf.bin", "type": "model"}, "net": {"path": "net", "type": "model"}}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"train": stage}, "artifacts": artifacts}))
    for number in (1, 2):
        (folder / "source.bin").write_bytes(bytes([number]) * 100)
        (folder / "params.yaml").write_text(f"lr: 0.{number}\n")
        (folder / "net").mkdir(exist_ok=True)
        (folder / "net" / "w.bin").write_bytes(b"w" * number)
        execute([tools / "dvc", "add", "--quiet", "net"], folder, **path)
        execute([tools / "dvc", "repro", "--quiet"], folder, **path)
        execute(["git", "add", "--all"], folder)
        execute(["git", "commit", "--quiet", "--message", f"commit {number}"], folder, **who)
        execute([tools / "gto", "register", "clf"], folder, **path)
    execute([tools / "gto", "register", "net"], folder, **path)
    execute([tools / "gto", "assign", "clf", "--version", "v0.0.1", "--stage", "prod"], folder, **path)

    offered = json.loads(assay("import", folder, "--dry-run", "--json"))
    assert [(row["model"], row["version"], row["aliases"]) for row in offered["versions"]] == [
        ("clf", "v0.0.1", ["prod"]),
        ("clf", "v0.0.2", []),
        ("net", "v0.0.1", []),
    ]
    policy = tmp_path / "policy.toml"
    policy.write_text('extends = "audit-only"\n')  # the files are no models, and nothing knows them
    done = json.loads(assay("import", folder, "--policy", policy, "--json"))
    assert [(row["reference"], row["aliases"], row["checksums"]) for row in done["versions"]] == [
        ("clf:1", ["prod"], 1),
        ("clf:2", [], 1),
        ("net:1", [], 1),
    ]
    assay("pull", "clf:2", "out")
    assert (tmp_path / "out/clf.bin").read_bytes() == bytes([2]) * 100
    card = json.loads(assay("show", "clf:2", "--json"))
    said = {item["kind"]: item["predicate"] for item in card["statements"]}
    assert said["params"] == {"params": {"lr": 0.2}}
