"""Bills of materials, provenance and known vulnerabilities of what a person named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from assay.artifact.collect import collect, tree_of
from assay.bom import cyclonedx, osv, slsa, spdx
from assay.bom.licences import read_licences
from assay.errors import InvalidInput
from assay.later import later
from assay.service import materials
from assay.service.materials import Gathering
from assay.settings import Settings, expanded
from assay.spec.json import Json
from assay.spec.manifest import Entry
from assay.spec.materials import Facts
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.spec.statement import Statement
from assay.spec.vulnerabilities import Check
from assay.streams.copying import digest_source
from assay.wiring.places import open_registry

if TYPE_CHECKING:
    from assay.formats import registry as formats
else:
    formats = later("assay.formats.registry")

Form = Literal["cyclonedx", "spdx", "slsa"]
FORMS: tuple[Form, ...] = get_args(Form)
_WRITERS: dict[Form, tuple[str, Callable[[Facts], dict[str, Json]]]] = {
    "cyclonedx": (cyclonedx.PREDICATE_TYPE, cyclonedx.cyclonedx),
    "spdx": (spdx.PREDICATE_TYPE, spdx.spdx),
    "slsa": (slsa.PREDICATE_TYPE, slsa.slsa),
}


@dataclass(frozen=True, slots=True)
class Bill:
    """One document.

    Args:
        facts: what it was written from.
        form: in which standard.
        document: as it is printed; for SLSA the whole in-toto statement.
        attached: whether it was attached just now; None when that was not asked for.
    """

    facts: Facts
    form: Form
    document: dict[str, Json]
    attached: bool | None


def bill(text: str, settings: Settings, *, form: Form = "cyclonedx", attach: bool = False) -> Bill:
    """Write a document about a path or a version.

    Args:
        text: a path or a reference.
        settings: where the registry is.
        form: the standard.
        attach: whether to keep it beside the version.

    Raises:
        InvalidInput: a path is to be attached to (code ``not-a-version``), or an unknown form (code ``unknown-form``).
        NotFound: there is no such thing.
    """
    if form not in _WRITERS:
        raise InvalidInput(f"no such form: {form!r}", code="unknown-form", hint=f"one of {', '.join(FORMS)}")
    predicate_type, write = _WRITERS[form]
    gathering = Gathering(formats.all_formats(), read_licences, installed_version("assay"))
    if is_path(text):
        if attach:
            raise InvalidInput(
                f"{text} is no version: there is nothing to attach to", code="not-a-version", hint="assay push it first"
            )
        facts = _files(expanded(text), gathering)
        return Bill(facts, form, _whole(facts, predicate_type, write(facts), form), None)
    registry = open_registry(settings)
    version = registry.resolve(Reference.parse(text))
    facts = materials.facts_of_version(registry, version, gathering)
    predicate = write(facts)
    attached = materials.attach(registry, version, predicate_type, predicate) if attach else None
    return Bill(facts, form, _whole(facts, predicate_type, predicate, form), attached)


def vulnerabilities(text: str, settings: Settings, export: Path) -> tuple[Version, Check]:
    """Look up what a version was made with in an OSV export.

    Raises:
        NotFound: there is no such version or export, or no environment was recorded (code ``no-environment``).
        InvalidInput: a path has no environment (code ``not-a-version``), or the export holds nothing to look in.
    """
    if is_path(text):
        raise InvalidInput(
            f"{text} is no version: no environment is recorded for plain files",
            code="not-a-version",
            hint="assay.push(model, name) records one",
        )
    registry = open_registry(settings)
    version = registry.resolve(Reference.parse(text))
    return version, osv.check(materials.distributions(registry, version), export)


def _files(path: Path, gathering: Gathering) -> Facts:
    files = collect(path)
    tree = tree_of(files)
    entries = [Entry(entry, digest_source(tree.source(entry)), tree.size(entry)) for entry in files]
    newest = max(file.stat().st_mtime for file in files.values())
    written = datetime.fromtimestamp(newest, UTC).replace(microsecond=0)
    return materials.facts_of_files(tree, entries, gathering, name=path.resolve().name, written=written)


def _whole(facts: Facts, predicate_type: str, predicate: dict[str, Json], form: Form) -> dict[str, Json]:
    if form != "slsa":
        return predicate
    whole: dict[str, Json] = json.loads(Statement(facts.digest, predicate_type, predicate, facts.created).document())
    return whole
