"""Keras' configuration documents: read and audited, and what every layout of files makes of them.

One rule: no document is used before it was audited. Not here: what a document means (``config``) and what it could do
(``audit``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from assay.formats.keras.audit import audit
from assay.formats.keras.config import Model, parse, read_model
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MAX_CONFIG = 16 << 20
"""Characters of a configuration that are parsed."""

_VERSION = re.compile(r"\d+(\.\d+)*", re.ASCII)
_BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch", "theano": "theano"}


def model_of(
    document: Json, weights: Mapping[str, Mapping[str, str]], path: str, findings: list[Finding]
) -> Model | None:
    """The model a configuration says, with what was left out of it added to *findings*; None when there is none."""
    model = read_model(document, weights)
    if model is not None and model.truncated:
        message = "Keras configuration: more or deeper nested layers than are read"
        findings.append(Finding("keras-limit", Severity.INCOMPLETE, message, path))
    return model


def document_of(text: str | None, what: str, path: str, findings: list[Finding], *, needed: bool = True) -> Json:
    """The parsed and audited configuration; unreadable ones are findings, and then, as when absent, None.

    Args:
        text: the configuration.
        what: what to call it.
        path: the entry it stands in.
        findings: takes what is odd, without repeating itself.
        needed: whether loading fails without the classes it names (``audit``).
    """
    if text is None:
        return None
    if len(text) > MAX_CONFIG:
        findings.append(Finding("keras-limit", Severity.INCOMPLETE, f"{what} has {len(text):,} characters", path))
        return None
    try:
        document = parse(text)
    except ValueError as error:
        message = f"{what} is not readable JSON"
        findings.append(Finding("keras-config", Severity.INCOMPLETE, message, path, evidence=str(error)[:200]))
        return None
    findings += [found for found in audit(document, path, needed=needed) if found not in findings]
    return document


def requirements(version: str | None, backend: str | None) -> tuple[str, ...]:
    """Distributions that load the model: Keras in its version, and its backend."""
    keras = f"keras=={version}" if version and _VERSION.fullmatch(version) else "keras"
    engine = _BACKENDS.get(backend or "")
    return (keras, engine) if engine else (keras,)


def counts(model: Model | None) -> dict[str, Json]:
    """Name and counts worth showing."""
    if model is None:
        return {}
    shown: dict[str, Json] = {"layers": model.layers, "layer_classes": dict(model.classes.most_common(100))}
    return {"name": model.name, **shown} if model.name else shown
