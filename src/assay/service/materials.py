"""Bills of materials and provenance: gather what is known of an artifact, and keep documents about it beside it.

The documents are written elsewhere (``assay.bom``), from ``Facts`` alone. Facts come from the files, from what was said
at push, and from the catalog; nothing is looked up on this machine or in a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.errors import NotFound
from assay.ports.formats import Format
from assay.service.examine import inspect
from assay.service.registry import Registry
from assay.spec.json import Json
from assay.spec.manifest import Entry, build
from assay.spec.materials import Facts, Licences
from assay.spec.records import Version
from assay.spec.statement import KINDS, Statement
from assay.trees import Tree


@dataclass(frozen=True, slots=True)
class Gathering:
    """What facts are gathered with.

    Args:
        formats: for files that nobody has described yet.
        licences: reads the licences of a tree, given what formats found in it.
        tool: version of Assay, as documents name it.
    """

    formats: Sequence[Format]
    licences: Callable[[Tree, Mapping[str, Json]], Licences]
    tool: str


def facts_of_version(registry: Registry, version: Version, gathering: Gathering) -> Facts:
    """What is known of a version: its files, its statements, and what the catalog says.

    Raises:
        NotFound: its bytes were purged or are missing.
        IntegrityError: its manifest or a statement is damaged.
    """
    manifest = registry.manifest(version)
    registry.check_present(version, manifest.entries())
    tree = registry.tree(manifest)
    own = [statement for statement in registry.statements(version.manifest) if statement.kind in KINDS]
    said = {statement.kind: statement.predicate for statement in own}
    inspection = said.pop("description", None) or inspect(tree, gathering.formats).to_json()
    return Facts(
        name=version.name,
        digest=version.manifest,
        created=max([version.created, *(statement.created for statement in own)]),
        tool=gathering.tool,
        entries=manifest.entries(),
        inspection=inspection,
        licences=gathering.licences(tree, inspection),
        said=said,
        version=version.number,
        supplier=version.actor,
        released=version.created,
    )


def facts_of_files(
    tree: Tree, entries: Sequence[Entry], gathering: Gathering, *, name: str, written: datetime
) -> Facts:
    """What is known of files that are no version: themselves.

    Args:
        tree: the files.
        entries: them, with digests.
        gathering: what to understand them with.
        name: what to call the model.
        written: when the newest of them was.
    """
    inspection = inspect(tree, gathering.formats).to_json()
    return Facts(
        name=name,
        digest=build(entries)[0].digest,
        created=written,
        tool=gathering.tool,
        entries=entries,
        inspection=inspection,
        licences=gathering.licences(tree, inspection),
    )


def attach(registry: Registry, version: Version, predicate_type: str, predicate: Mapping[str, Json]) -> bool:
    """Keep a document beside a version; False when the very same one is there already.

    Raises:
        StorageError: the registry cannot be written.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    statement = Statement(version.manifest, predicate_type, predicate, now)
    return registry.attach(statement, registry.manifest(version))


def distributions(registry: Registry, version: Version) -> dict[str, str]:
    """The Python distributions that a version was made with, as recorded.

    Raises:
        NotFound: nothing was recorded (code ``no-environment``).
    """
    recorded = registry.statements(version.manifest, "environment")
    found = recorded[-1].predicate.get("distributions") if recorded else None
    if not isinstance(found, Mapping) or not found:
        raise NotFound(
            f"nothing is recorded of the environment that {version.reference} was made with",
            code="no-environment",
            hint="assay.push(model, name) from the training process records it",
        )
    return {name: str(release) for name, release in found.items()}
