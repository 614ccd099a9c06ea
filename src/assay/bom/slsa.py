"""SLSA provenance v1: an in-toto predicate that says how a model was trained, as far as it was observed.

Assay is not the builder and saw nothing of the training: it observed the process that pushed. The builder is named for
that, and for nothing more (SLSA build level 0). Written format: ``docs/spec/provenance.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from assay.bom.facts import bases, datasets, libraries, location, section, text, urn
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.materials import Facts

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://assay.dev/build/observed-training/v1"
BUILDER = "https://assay.dev/builder/pushing-process/v1"


def slsa(facts: Facts) -> dict[str, Json]:
    """The predicate; the subject is the artifact's manifest."""
    environment = facts.said.get("environment", {})
    params = section(facts.said.get("params", {}).get("params"))
    run = facts.said.get("run", {})
    external: dict[str, Json] = {"parameters": params, "command": environment.get("command")}
    internal: dict[str, Json] = {key: environment.get(key) for key in ("python", "platform", "hardware", "local_code")}
    invocation = run.get("uri") or run.get("run_id")
    metadata: dict[str, Json] = {"invocationId": text(invocation) if invocation else None}
    definition: dict[str, Json] = {
        "buildType": BUILD_TYPE,
        "externalParameters": _known(external),
        "internalParameters": _known(internal),
        "resolvedDependencies": [*_code(environment), *_bases(facts), *_datasets(facts), *_libraries(facts)],
    }
    details: dict[str, Json] = {
        "builder": {"id": BUILDER, "version": {"assay": facts.tool}},
        "metadata": _known(metadata),
    }
    kept = ("buildType", "externalParameters")
    return {
        "buildDefinition": {key: value for key, value in definition.items() if key in kept or value},
        "runDetails": {key: value for key, value in details.items() if value},
    }


def _known(values: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}


def _code(environment: Mapping[str, Json]) -> list[Json]:
    """The commit of the training code, and whether the files differed from it."""
    git = section(environment.get("git"))
    remote, commit = location(git.get("remote")), git.get("commit")
    if not isinstance(commit, str) or not commit:
        return []
    body: dict[str, Json] = {"name": "training code", "digest": {"gitCommit": commit}}
    if remote is not None:
        body["uri"] = f"git+{remote}@{commit}"
    notes = _known({"branch": git.get("branch"), "dirty": git.get("dirty")})
    return [{**body, "annotations": notes} if notes else body]


def _bases(facts: Facts) -> list[Json]:
    found: list[Json] = []
    for base in bases(facts):
        body: dict[str, Json] = {"name": base.name, "uri": urn("model", base.name)}
        if base.manifest:
            digest = Digest.parse(base.manifest)
            body["digest"] = {digest.algorithm: digest.hex}
        found.append({**body, "annotations": {"role": "base model"}})
    return found


def _datasets(facts: Facts) -> list[Json]:
    return [
        {"name": one.name, "uri": urn("dataset", one.name), "annotations": {"role": "data set", "named-in": one.path}}
        for one in datasets(facts)
    ]


def _libraries(facts: Facts) -> list[Json]:
    return [
        {"name": one.name, "uri": quote(one.purl, safe=":/@%+.-_~"), "annotations": {"observed-in": one.observed}}
        for one in libraries(facts)
    ]
