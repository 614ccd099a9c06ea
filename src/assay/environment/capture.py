"""Capture: everything above in one JSON object (``docs/spec/environment.md``)."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping

from assay.environment.code import git_state
from assay.environment.hardware import hardware
from assay.environment.modules import distributions_of, needed_packages
from assay.environment.redaction import redact_arguments
from assay.spec.json import Json

SCHEMA = 1


def capture(model: object, modules: Iterable[str] = ()) -> Mapping[str, Json]:
    """What *model* was made with, as far as this process can tell.

    Args:
        model: the live object.
        modules: packages known to be needed besides (``Saved.modules``).

    Returns:
        A JSON object. It holds no environment variable, no host or user name, no absolute path and no secret.
    """
    packages = needed_packages(model, modules)
    distributions, local = distributions_of(packages)
    body: dict[str, Json] = {
        "schema": SCHEMA,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
        },
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "packages": list(packages),
        "distributions": dict(distributions),
        "command": list(redact_arguments(_command())),
        "hardware": hardware(),
    }
    if local:
        body["local_code"] = list(local)
    git = git_state()
    if git is not None:
        body["git"] = git
    return body


def _command() -> list[str]:
    return list(sys.argv) if sys.argv and sys.argv[0] else []
