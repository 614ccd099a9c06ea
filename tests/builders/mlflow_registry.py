"""Makes an MLflow registry with MLflow itself. Run as a program, so that MLflow's settings stay out of the tests.

    python mlflow_registry.py FOLDER [files]

``churn`` is logged as MLflow 3 does it, ``Fraud Model`` from runs' artifacts as MLflow 2 did (one version is deleted, two
share a stage, one is copied to ``copied``); of ``raw`` the first version's files are gone, the second lies in a bucket, the third names nothing.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import mlflow.sklearn
import numpy as np
from sklearn.linear_model import LogisticRegression


def make(folder: Path) -> Path:
    """Make the registry in another process; its database."""
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "mlflow.db"


def make_files(folder: Path) -> Path:
    """Make a registry in a folder, as MLflow did by default for years; the folder."""
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, str(folder), "files"]
    allowed = environment | {"MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run(command, env=allowed, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "mlruns"


def files(folder: Path) -> None:
    """``churn`` and ``Fraud Model`` as in the database, in files."""
    mlflow.set_tracking_uri((folder / "mlruns").as_uri())
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("e")
    churn(client, experiment)
    run = client.create_run(experiment, run_name="by hand").info.run_id
    client.log_param(run, "optimizer/lr", 0.1)
    for step in range(3):
        client.log_metric(run, "val/auc", step / 10, step=step)
    (folder / "weights.bin").write_bytes(b"w" * 10)
    client.log_artifact(run, str(folder / "weights.bin"), "model/sub")
    client.create_registered_model("Fraud Model", tags={"note": "two\nlines"})
    for stage in ("Production", "Production", "None"):
        version = client.create_model_version("Fraud Model", f"runs:/{run}/model", run).version
        client.transition_model_version_stage("Fraud Model", version, stage)
    client.delete_model_version("Fraud Model", "3")


def main(folder: Path) -> None:
    """Make it here."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("e", artifact_location=str(folder / "artifacts"))
    churn(client, experiment)
    fraud(client, experiment, folder)
    raw(client, folder)


def churn(client: mlflow.MlflowClient, experiment: str) -> None:
    data = mlflow.data.from_numpy(np.zeros((4, 2)), name="train")
    mlflow.set_experiment(experiment_id=experiment)
    for depth in (2, 3):
        with mlflow.start_run(run_name=f"run-{depth}"):
            mlflow.log_params({"depth": depth, "solver": "saga"})
            mlflow.log_metric("auc", 0.8 + depth / 100)
            mlflow.log_metric("broken", float("nan"))
            model = LogisticRegression(C=depth).fit(np.eye(4)[:, :2], [0, 1, 0, 1])
            info = mlflow.sklearn.log_model(
                model,
                name="m",
                registered_model_name="churn",
                serialization_format="cloudpickle",
                pip_requirements=["scikit-learn"],
            )
            mlflow.log_metric("f1", depth / 10, model_id=info.model_id, dataset=data)
    client.set_registered_model_alias("churn", "champion", 1)
    client.set_registered_model_tag("churn", "team", "risk")
    client.set_model_version_tag("churn", "2", "checked", "yes")
    client.update_model_version("churn", "1", "the first one")


def fraud(client: mlflow.MlflowClient, experiment: str, folder: Path) -> None:
    client.create_registered_model("Fraud Model")
    for number in (1, 2, 3):
        run = client.create_run(experiment).info.run_id
        weights = folder / "weights.bin"
        weights.write_bytes(bytes([number]) * 10)
        client.log_artifact(run, str(weights), "model/sub")
        client.create_model_version("Fraud Model", f"runs:/{run}/model", run)
    client.delete_model_version("Fraud Model", "2")
    client.copy_model_version("models:/Fraud Model/3", "copied")
    connection = sqlite3.connect(folder / "mlflow.db")
    with connection:
        connection.execute(
            "UPDATE model_versions SET current_stage = 'Production' WHERE name = 'Fraud Model' AND current_stage = 'None'"
        )
    connection.close()


def raw(client: mlflow.MlflowClient, folder: Path) -> None:
    client.create_registered_model("raw")
    connection = sqlite3.connect(folder / "mlflow.db")
    with connection:
        for number, place in enumerate([str(folder / "gone"), "s3://user:secret@bucket/model", "models:/m-gone"], 1):
            connection.execute(
                "INSERT INTO model_versions (name, version, source, status, current_stage, creation_time, workspace)"
                " VALUES ('raw', ?, ?, 'READY', 'None', 0, 'default')",
                (number, place),
            )
    connection.close()
    mlflow.genai.register_prompt(name="greeting", template="Hello {{name}}")


if __name__ == "__main__":
    (files if "files" in sys.argv else main)(Path(sys.argv[1]))
