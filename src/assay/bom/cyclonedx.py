"""CycloneDX 1.6 machine-learning bill of materials (ECMA-424), as JSON.

The model is the component that the document is about; its files are its parts; distributions, data sets and base models
stand beside it. Licences that metadata names are *declared*; those whose text lies in the files are *evidence*. The
same facts give the same bytes: the serial number is a name for the content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.bom.facts import (
    Data,
    Library,
    bases,
    datasets,
    identity,
    items,
    libraries,
    location,
    metrics,
    models,
    parameters,
    section,
    summary,
)
from assay.bom.licence_names import LISTED
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.materials import Facts, LicenceClaim

PREDICATE_TYPE = "https://cyclonedx.org/bom"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_MODEL = "model"


def cyclonedx(facts: Facts) -> dict[str, Json]:
    """The bill of materials of *facts*."""
    used = libraries(facts)
    data = datasets(facts)
    beside = [*map(_dataset, data), *map(_library, used)]
    needs = [*(f"data:{one.name}" for one in data), *(one.purl for one in used)]
    dependencies: list[Json] = [{"ref": _MODEL, "dependsOn": list(needs)}] if needs else [{"ref": _MODEL}]
    body: dict[str, Json] = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": facts.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "assay", "version": facts.tool}]},
            "component": _model(facts),
        },
        "components": beside,
        "dependencies": dependencies,
    }
    return {**body, "serialNumber": f"urn:uuid:{identity(body)}"}


def _dataset(named: Data) -> Json:
    contents: list[Json] = [{"type": "dataset", "name": named.name}]
    return {"type": "data", "bom-ref": f"data:{named.name}", "name": named.name, "data": contents}


def _library(one: Library) -> Json:
    return {
        "type": "library",
        "bom-ref": one.purl,
        "name": one.name,
        "version": one.version,
        "purl": one.purl,
        "properties": _properties({"assay:observed-in": one.observed}),
    }


def _model(facts: Facts) -> dict[str, Json]:
    body: dict[str, Json] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": facts.name,
        "version": str(facts.version) if facts.version is not None else None,
        "publisher": facts.supplier,
        "hashes": _hashes(facts.digest),
        "licenses": _licences([one for one in facts.licences.claims if not one.text], declared=True),
        "evidence": _evidence(facts),
        "pedigree": _pedigree(facts),
        "externalReferences": _references(facts),
        "components": [_file(path, digest, size) for path, digest, size in _files(facts)],
        "modelCard": _card(facts),
        "properties": _properties(_observations(facts)),
    }
    return {key: value for key, value in body.items() if value not in (None, [], {})}


def _files(facts: Facts) -> list[tuple[str, Digest, int]]:
    return [(entry.path, entry.digest, entry.size) for entry in sorted(facts.entries, key=lambda entry: entry.path)]


def _file(path: str, digest: Digest, size: int) -> dict[str, Json]:
    return {
        "type": "file",
        "bom-ref": f"file:{path}",
        "name": path,
        "hashes": _hashes(digest),
        "properties": _properties({"assay:size": str(size)}),
    }


def _hashes(digest: Digest) -> list[Json]:
    return [{"alg": {"sha256": "SHA-256", "sha512": "SHA-512"}[digest.algorithm], "content": digest.hex}]


def _licences(claims: Sequence[LicenceClaim], *, declared: bool = False) -> list[Json]:
    """Each licence once; what is not on the SPDX list is called as it is stated."""
    found: dict[str, dict[str, Json]] = {}
    for claim in claims:
        for name in claim.identifiers or ((claim.stated,) if claim.stated else ()):
            found.setdefault(name, {"id": name} if name in LISTED else {"name": name})
    mark: dict[str, Json] = {"acknowledgement": "declared"} if declared else {}
    return [{"license": {**body, **mark}} for body in found.values()]


def _evidence(facts: Facts) -> dict[str, Json]:
    texts = _licences([one for one in facts.licences.claims if one.text and one.identifiers])
    return {"licenses": texts} if texts else {}


def _pedigree(facts: Facts) -> dict[str, Json]:
    ancestors: list[Json] = []
    for base in bases(facts):
        body: dict[str, Json] = {"type": "machine-learning-model", "bom-ref": f"base:{base.name}", "name": base.name}
        if base.manifest:
            body["hashes"] = _hashes(Digest.parse(base.manifest))
        ancestors.append(body)
    return {"ancestors": ancestors} if ancestors else {}


def _references(facts: Facts) -> list[Json]:
    found: list[Json] = []
    git = section(facts.said.get("environment", {}).get("git"))
    if (remote := location(git.get("remote"))) is not None:
        comment = f"training code, commit {git['commit']}" if git.get("commit") else "training code"
        found.append({"type": "vcs", "url": remote, "comment": comment})
    if (run := location(facts.said.get("run", {}).get("uri"))) is not None:
        found.append({"type": "build-system", "url": run, "comment": "training run"})
    return found


def _card(facts: Facts) -> dict[str, Json]:
    leading = next(models(facts), {})
    family = section(leading.get("metadata")).get("model_type")
    described: dict[str, Json] = {
        "task": summary(facts, "task"),
        "architectureFamily": family if isinstance(family, str) else None,
        "modelArchitecture": summary(facts, "architecture"),
        "datasets": [{"ref": f"data:{one.name}"} for one in datasets(facts)],
        "inputs": _ports(leading, "inputs"),
        "outputs": _ports(leading, "outputs"),
    }
    body: dict[str, Json] = {
        "modelParameters": {key: value for key, value in described.items() if value not in (None, [], {})},
        "properties": _properties({f"assay:parameter:{key}": value for key, value in parameters(facts).items()}),
    }
    measured: list[Json] = [{"type": name, "value": value} for name, value in metrics(facts).items()]
    if measured:
        body["quantitativeAnalysis"] = {"performanceMetrics": measured}
    return {key: value for key, value in body.items() if value not in (None, [], {})}


def _ports(model: Mapping[str, Json], side: str) -> list[Json]:
    return [{"format": port_text(section(port))} for port in items(model.get(side))]


def port_text(port: Mapping[str, Json]) -> str:
    """An input or output in one line: ``name: dtype[shape]``."""
    shape = port.get("shape")
    sides = f"[{', '.join('?' if side is None else str(side) for side in items(shape))}]" if shape is not None else ""
    return f"{port.get('name')}: {port.get('dtype')}{sides}"


def _observations(facts: Facts) -> dict[str, str]:
    """What has no field of its own in the standard."""
    audit = facts.said.get("audit", {})
    found = {
        "assay:manifest": str(facts.digest),
        "assay:format": summary(facts, "format"),
        "assay:framework": summary(facts, "framework"),
        "assay:framework-version": summary(facts, "framework_version"),
        "assay:audit:verdict": audit.get("verdict"),
        "assay:audit:summary": audit.get("summary"),
        "assay:audit:ruleset": section(audit.get("report")).get("ruleset"),
    }
    texts = {key: str(value) for key, value in found.items() if value}
    for number, conflict in enumerate(facts.licences.conflicts, 1):
        texts[f"assay:licence-conflict:{number}"] = conflict.message
    return texts


def _properties(values: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in values.items()]
