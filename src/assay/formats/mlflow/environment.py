"""The environment files of an MLflow model: what must be installed, and what pip would be told to do besides.

A requirements file is a small language: besides distributions it can add package indexes, pull in other files and
install from any address. What is not a plain requirement is a finding.

Source: pip documentation, "Requirements File Format"; ``conda.yaml`` and ``python_env.yaml`` as MLflow writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from assay.audit.requirements import MAX_BYTES, MAX_LINES, read_lines, without_login
from assay.containers.documents import parse_yaml
from assay.errors import BadFormat, NotFound
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

CONDA, PYTHON, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"


@dataclass(slots=True)
class Environment:
    """What the environment files of one model say.

    Attributes:
        requirements: distributions, PEP 508.
        python: version of Python.
        findings: options, addresses and files beside them; unreadable files.
    """

    requirements: list[str] = field(default_factory=list)
    python: str | None = None
    findings: list[Finding] = field(default_factory=list)


def environment(tree: Tree, marker: str) -> Environment:
    """Read the environment files beside the entry *marker* (``MLmodel``); absent ones are skipped."""
    found = Environment()
    conda = _yaml(tree, Tree.sibling(marker, CONDA), found)
    if isinstance(conda, dict):
        _conda(conda, Tree.sibling(marker, CONDA), found, pip=Tree.sibling(marker, REQUIREMENTS) not in tree)
    python = _yaml(tree, Tree.sibling(marker, PYTHON), found)
    if isinstance(python, dict) and isinstance(python.get("python"), (str, float)):
        found.python = str(python["python"])[:40]
    path = Tree.sibling(marker, REQUIREMENTS)
    text = _text(tree, path, found)
    if text is not None:
        _requirements(text, path, found)
    return found


def _conda(body: dict[str, object], path: str, found: Environment, *, pip: bool) -> None:
    for channel in _list(body.get("channels")):
        if isinstance(channel, str) and "://" in channel:
            _report(
                found,
                "mlflow-conda-channel",
                Severity.NETWORK,
                "conda takes packages from another address",
                path,
                channel,
            )
    for item in _list(body.get("dependencies")):
        if isinstance(item, str) and item.startswith("python="):
            found.python = item.removeprefix("python=").strip("=")[:40]
        elif pip and isinstance(item, dict):
            _requirements("\n".join(line for line in _list(item.get("pip")) if isinstance(line, str)), path, found)


def _requirements(text: str, path: str, found: Environment) -> None:
    lines = text.count("\n") + 1
    if lines > MAX_LINES:
        _report(found, "mlflow-requirements", Severity.INCOMPLETE, f"{lines:,} lines, {MAX_LINES:,} were read", path)
    for line in read_lines(text):
        if line.requirement:
            found.requirements.append(line.text)
        if line.trouble == "option":
            severity = Severity.NETWORK if line.remote else Severity.READ if line.local else Severity.NOTE
            _report(found, "mlflow-requirement-option", severity, line.message, path, line.text)
        elif line.trouble == "url":
            _report(found, "mlflow-requirement-url", Severity.NETWORK, line.message, path, line.text)
        elif line.trouble == "path":
            _report(found, "mlflow-requirement-path", Severity.READ, line.message, path, line.text)


def _yaml(tree: Tree, path: str, found: Environment) -> object:
    text = _text(tree, path, found)
    try:
        return None if text is None else parse_yaml(text, path)
    except BadFormat as error:
        _report(found, "mlflow-environment", Severity.INCOMPLETE, error.message, path)
        return None


def _text(tree: Tree, path: str, found: Environment) -> str | None:
    try:
        if tree.size(path) > MAX_BYTES:
            _report(found, "mlflow-environment", Severity.INCOMPLETE, f"longer than {MAX_BYTES:,} bytes", path)
            return None
        return tree.open(path).read().decode("utf-8-sig", "replace")
    except NotFound:
        return None


def _list(value: object) -> list[object]:
    return value[:MAX_LINES] if isinstance(value, list) else []


def _report(found: Environment, rule: str, severity: Severity, message: str, path: str, evidence: str = "") -> None:
    found.findings.append(Finding(rule, severity, message, path, evidence=without_login(evidence)[:200]))
