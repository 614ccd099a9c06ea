"""Evaluating a version with a command of the person's own, whose last line of output is the metrics as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from assay.errors import CouldNot, InvalidInput
from assay.ports.progress import SILENT, Progress
from assay.service.gate import Guard
from assay.service.registry import Registry
from assay.spec.evaluation import finite
from assay.spec.records import Version
from assay.wiring.trying import laid_out, run_for_line

ENVIRON = "ASSAY_EVALUATE"
"""How the variables begin that a command is given."""


def measure(
    registry: Registry,
    version: Version,
    command: Sequence[str],
    guard: Guard,
    *,
    link: bool = False,
    progress: Progress = SILENT,
) -> dict[str, float]:
    """What a command measures of a version.

    Args:
        registry: where it is.
        version: which.
        command: with ``{path}`` where the folder of its files belongs; it runs in the current folder.
        guard: the policies; the files have to pass the gate of a pull.
        link: as for ``laid_out``.
        progress: hears about bytes written.

    Raises:
        CouldNot: the command failed or cannot be started (codes ``evaluation-failed``, ``command-not-started``).
        InvalidInput: its last line is not a JSON object of finite numbers (code ``no-metrics``).
        As ``laid_out``.
    """
    with laid_out(registry, version, guard, link=link, progress=progress) as trial:
        status, line = run_for_line(trial.arguments(command), trial.environ(ENVIRON))
    if status:
        ended = f"was ended by signal {-status}" if status < 0 else f"exited with {status}"
        raise CouldNot(
            f"the command {ended} on {version.reference}; nothing was recorded", code="evaluation-failed", status=status
        )
    return _metrics(line, version)


def _metrics(line: str, version: Version) -> dict[str, float]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not body:
        raise _no_metrics(f"the command's last line about {version.reference} is no JSON object: {line!r:.120}")
    numbers = {name: finite(value) for name, value in body.items()}
    if wrong := [name for name, number in numbers.items() if number is None]:
        raise _no_metrics(
            f"the command says of {version.reference} that {wrong[0]} is {body[wrong[0]]!r:.80}, no number"
        )
    return {name: number for name, number in numbers.items() if number is not None}


def _no_metrics(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what}; nothing was recorded", code="no-metrics", hint='the last line of its output is like {"auc": 0.93}'
    )
