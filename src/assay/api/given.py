"""What people hand to the SDK, checked and brought into the form the services want."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.artifact.collect import tree_of
from assay.errors import InvalidInput
from assay.later import later
from assay.service.examine import inspect as look_at
from assay.service.lineage import bases_given
from assay.service.publish import Base, Claims
from assay.service.registry import Registry
from assay.settings import read_settings
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.wiring.places import open_registry

if TYPE_CHECKING:
    import numpy as np

    from assay.environment import capture as capturing
    from assay.environment import modules
    from assay.formats import registry as formats
else:
    np = later("numpy")
    capturing = later("assay.environment.capture")
    modules = later("assay.environment.modules")
    formats = later("assay.formats.registry")

PathLike = str | Path


def warn(message: str) -> None:
    """Say what is let through although it is not safe, or must not be used any more."""
    warnings.warn(message, stacklevel=4)


def registry_of(home: PathLike | None, *, create: bool = False) -> Registry:
    """The registry that the settings name."""
    return open_registry(read_settings(home=home), create=create, warn=warn)


def claims_of(
    metrics: Mapping[str, float] | None,
    params: Mapping[str, Json] | None,
    base: str | Sequence[str] | None,
    relation: str | None,
    run: str | None,
    note: str | None,
) -> Claims:
    """What is said about a model, when it has the form of a claim.

    Raises:
        InvalidInput: it has not (codes ``wrong-type``, ``bad-metric``, ``bad-param``, ``unknown-relation``,
            ``invalid-base``).
    """
    said = {"run": run, "note": note}
    run, note = (None if value is None else text_of(what, value) for what, value in said.items())
    return Claims(
        metrics_of(metrics),
        {key: _param(key, value) for key, value in _named("params", params).items()},
        bases_of(base, relation),
        run,
        note,
    )


def bases_of(base: str | Sequence[str] | None, relation: str | None) -> tuple[Base, ...]:
    """What a model was made from, when it is one name or several.

    Raises:
        InvalidInput: it is not, or there is no such relation (codes ``wrong-type``, ``unknown-relation``,
            ``invalid-base``).
    """
    given = () if base is None else base if isinstance(base, (list, tuple)) else (base,)
    names = [text_of("base", one) for one in given]
    return bases_given(names, None if relation is None else text_of("relation", relation))


def metrics_of(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Named numbers as floats; numpy's and torch's scalars are numbers too.

    Raises:
        InvalidInput: they are not (codes ``wrong-type``, ``bad-metric``).
    """
    return {key: _number(key, value) for key, value in _named("metrics", metrics).items()}


def _named(what: str, values: object) -> Mapping[str, Any]:
    """What was given under names, when it is that."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(key, str) and key.strip() for key in values):
        raise InvalidInput(
            f"{what} are not named values: {values!r:.80}", code="wrong-type", hint=f"{what}={{'name': value}}"
        )
    return values


def text_of(what: str, value: object) -> str:
    """*value*, when it is text.

    Raises:
        InvalidInput: it is something else (code ``wrong-type``).
    """
    if not isinstance(value, str):
        raise InvalidInput(f"the {what} is a {type(value).__name__}, expected text", code="wrong-type")
    return value


def _param(name: str, value: object) -> Json:
    """A training parameter as a statement keeps it; numpy's scalars and arrays and paths are understood.

    Raises:
        InvalidInput: it has no JSON form (code ``bad-param``).
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (list, tuple)):
        return [_param(name, one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _param(name, one) for key, one in value.items()}
    raise InvalidInput(
        f"parameter {name!r} holds a {type(value).__name__}, which has no form as JSON",
        code="bad-param",
        hint=f"params={{{name!r}: str(value)}} keeps it as text",
    )


def names_path(reference: object) -> bool:
    """Whether a path is meant, not a reference."""
    return isinstance(reference, Path) or is_path(text_of("reference", reference))


def version_of(registry: Registry, reference: str) -> Version:
    """The version a reference names.

    Raises:
        NotFound: there is none.
    """
    return registry.resolve(Reference.parse(text_of("reference", reference)))


def _number(key: str, value: float) -> float:
    """A metric as a float; numpy's and torch's scalars are numbers too."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"metric {key!r} is not a finite number: {value!r}", code="bad-metric")
    return number


def environment_of(files: Mapping[str, Path]) -> Mapping[str, Json] | None:
    """What this process is, when it uses what the files need: then it is the one that made or checked the model."""
    needed = look_at(tree_of(files), formats.all_formats()).summary().get("requirements", ())
    packages = modules.imported_for(str(name) for name in needed) if isinstance(needed, list) else ()
    return capturing.capture(None, packages) if packages else None


def plain(hyperparameters: Mapping[str, Json]) -> dict[str, Json]:
    """The settings of a live object that say something by themselves; parts are described from the files."""
    return {
        key: value
        for key, value in hyperparameters.items()
        if isinstance(value, (bool, int, float, str)) and not (isinstance(value, str) and value.startswith("<"))
    }
