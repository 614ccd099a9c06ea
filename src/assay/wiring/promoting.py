"""Putting promotions together: the rules of the registry and of the project, and who compares and reads licences."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import InvalidInput
from assay.later import later
from assay.policy.promotion import Rule
from assay.policy.promotion_reading import read_rules
from assay.policy.trust import Trust
from assay.service.gate import Promoting
from assay.service.registry import Registry
from assay.settings import PROJECT_RULES, Settings
from assay.spec.changes import DropIn
from assay.spec.json import Json
from assay.spec.materials import Licences
from assay.spec.records import Version
from assay.trees import Tree
from assay.wiring.places import TENSORS

if TYPE_CHECKING:
    from assay.bom import licences
    from assay.compare import comparing, sides
    from assay.wiring import comparing as naming
else:
    licences = later("assay.bom.licences")
    comparing = later("assay.compare.comparing")
    sides = later("assay.compare.sides")
    naming = later("assay.wiring.comparing")

REGISTRY_RULES = "promotion.toml"
"""File in a home whose rules hold for everybody who moves an alias there."""
MAX_RULES = 4 << 20


def promoting_of(settings: Settings, *, trusted: Callable[[], Trust]) -> Promoting:
    """What moving an alias is judged with.

    Args:
        settings: name the registry and the project.
        trusted: gives the signers whom the registry's policy trusts.
    """
    return Promoting(lambda: rules_of(settings, trusted()), _drop_in, _licences)


def rules_of(settings: Settings, trusted: Trust) -> tuple[Rule, ...]:
    """The registry's rules, then the project's: all of them hold.

    Raises:
        InvalidInput: a file cannot be read, or says what no rule can say (code ``bad-promotion``).
    """
    found: tuple[Rule, ...] = ()
    file = settings.home / REGISTRY_RULES
    if lexists(file):
        found += read_rules(_read(file), source=REGISTRY_RULES, trusted=trusted)
    if settings.project is not None:
        body = {key: value for key, value in _read(settings.project).items() if key in PROJECT_RULES}
        found += read_rules(body, source=settings.project.name, trusted=trusted)
    return found


def _drop_in(registry: Registry, old: Version, new: Version) -> DropIn:
    """Whether *new* can take the place of *old*, as ``assay diff`` says."""
    before, after = naming.version_side(registry, old), naming.version_side(registry, new)
    with before.artifact, after.artifact:
        options = sides.Options(ranks=False, audit=False, memory=registry.state / TENSORS)
        return comparing.compare(before, after, options).drop_in


def _licences(tree: Tree, inspection: Mapping[str, Json]) -> Licences:
    return licences.read_licences(tree, inspection)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        # A folder, a link to nothing, a pipe: somebody meant to put rules there, so it must not count as no rules.
        if file.exists() and not file.is_file():
            raise OSError("it is not a file")  # noqa: TRY301 - told as any other
        if file.stat().st_size > MAX_RULES:
            raise InvalidInput(f"promotion rules {file} have more than {MAX_RULES:,} bytes", code="bad-promotion")
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"promotion rules {file} cannot be read: {error}",
            code="bad-promotion",
            hint="they are TOML: docs/spec/promotion.md shows how; nothing was moved",
        ) from error
