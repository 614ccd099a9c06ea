"""The environment files of an MLflow model: what must be installed, and what pip would be told to do besides.

A requirements file is a small language: besides distributions it can add package indexes, pull in other files and
install from any address. What is not a plain requirement is a finding.

Source: pip documentation, "Requirements File Format"; ``conda.yaml`` and ``python_env.yaml`` as MLflow writes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from assay.containers.documents import parse_yaml
from assay.errors import BadFormat, NotFound
from assay.spec.finding import Finding, Severity
from assay.trees import Tree

MAX_BYTES = 1 << 20
MAX_LINES = 5000
CONDA, PYTHON, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(
    _NAME + r"\s*(?:\[[A-Za-z0-9._,\s-]{0,200}\])?\s*(?:[<>=!~;(][^@]*|@\s*\S.*)?",
    re.ASCII,
)
_NETWORK = ("-i", "-f", "--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--proxy")
_READ = ("-r", "-c", "-e", "--requirement", "--constraint", "--editable")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


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
    lines = text.replace("\\\n", " ").splitlines()
    if len(lines) > MAX_LINES:
        _report(
            found, "mlflow-requirements", Severity.INCOMPLETE, f"{len(lines):,} lines, {MAX_LINES:,} were read", path
        )
    for raw in lines[:MAX_LINES]:
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        if line.startswith("-"):
            _option(line, path, found)
        elif line:
            _requirement(line.split(" --", 1)[0].strip()[:1000], path, found)


def _option(line: str, path: str, found: Environment) -> None:
    name = re.split(r"[\s=]", line, maxsplit=1)[0]
    severity, message = Severity.NOTE, "pip is given an option"
    if "://" in line or _is(name, _NETWORK):
        severity, message = Severity.NETWORK, "pip is told to take packages from another address"
    elif _is(name, _READ):
        severity, message = Severity.READ, "pip is told to read another file"
    _report(found, "mlflow-requirement-option", severity, message, path, line)


def _is(name: str, options: tuple[str, ...]) -> bool:
    """Whether pip takes *name* for one of *options*; long ones may be shortened, short ones run into their value."""
    if name.startswith("--"):
        return any(option.startswith(name) for option in options)
    return name[:2] in options


def _requirement(line: str, path: str, found: Environment) -> None:
    if _REQUIREMENT.fullmatch(line):
        found.requirements.append(_CREDENTIALS.sub("//…@", line))
        if "://" not in line:
            return
    rule, severity, message = "mlflow-requirement-path", Severity.READ, "a requirement is not a distribution's name"
    if "://" in line:
        rule, severity = "mlflow-requirement-url", Severity.NETWORK
        message = "a requirement is installed from an address"
    _report(found, rule, severity, message, path, line)


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
    found.findings.append(Finding(rule, severity, message, path, evidence=_CREDENTIALS.sub("//…@", evidence)[:200]))
