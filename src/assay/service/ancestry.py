"""Every edge that statements in a registry declare, resolved to the versions that are here.

One query lists all statements; what each says is remembered (``declared``). A name in a file says nothing about when:
it is taken for the newest version that the model had when the artifact was pushed, else for its first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from assay.errors import AssayError, InvalidInput
from assay.ports.progress import SILENT, Progress
from assay.service.declared import KINDS, Declared
from assay.service.declared import said as lineage_of
from assay.service.registry import Registry
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.lineage import Condition, Edge, Relation, Source
from assay.spec.records import EventKind, Referrer, Version
from assay.spec.reference import Reference, is_path
from assay.spec.statement import artifact_type_of

_HUB = re.compile(
    r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)(?P<name>[^/?#]+/[^/?#@]+).*", re.IGNORECASE
)
_ONE_BY_ONE = 50
"""Artifacts whose versions are asked for one by one."""
_WRITTEN = re.compile(r"https?://", re.IGNORECASE)
_TYPES = {artifact_type_of(kind): kind for kind in KINDS}


class Ancestry:
    """The edges of a registry, and what its newest audits say.

    Args:
        registry: which.
        declared: what is remembered of statements.
        progress: hears about statements read.
    """

    def __init__(self, registry: Registry, declared: Declared, progress: Progress = SILENT) -> None:
        self._registry = registry
        self._lines: dict[str, Sequence[Version]] = {}
        self._versions: dict[Digest, Sequence[Version]] = {}
        self.unread = 0
        said = self._read(declared, progress)
        self._audits = {subject: audit for subject, says in said.items() if (audit := _newest(says, "audit"))}
        self._own = {
            name: subject
            for subject, says in said.items()
            for name in _strings((_newest(says, "names") or {}).get("names"))
        }
        self.edges = tuple(edge for subject, says in said.items() for edge in self._edges(Digest.parse(subject), says))

    def audit(self, subject: Digest) -> Condition | None:
        """What the newest recorded audit holds against an artifact; None when it says safe, or there is none."""
        found = self._audits.get(str(subject))
        verdict = str(found["verdict"]) if found else "safe"
        return None if found is None or verdict == "safe" else Condition(verdict, str(found["summary"]))

    def denied(self, subject: Digest) -> frozenset[Digest]:
        """Artifacts that somebody said it was not made from."""
        return self._denied.get(subject, frozenset())

    def versions(self, manifest: Digest) -> Sequence[Version]:
        """The versions that are an artifact, oldest first."""
        if manifest not in self._versions:
            found = self._registry.catalog.by_manifest(manifest)
            self._versions[manifest] = sorted(found, key=lambda one: (one.created, one.name, one.number))
        return self._versions[manifest]

    def learn(self, count: int) -> None:
        """Prepare for asking about so many artifacts: of many, all versions are read at once."""
        if count <= _ONE_BY_ONE:
            return
        found: dict[Digest, list[Version]] = defaultdict(list)
        for model in self._registry.catalog.models():
            for version in self._registry.catalog.versions(model.name):
                found[version.manifest].append(version)
        for manifest, versions in found.items():
            self._versions[manifest] = sorted(versions, key=lambda one: (one.created, one.name, one.number))

    def _read(self, declared: Declared, progress: Progress) -> dict[str, list[tuple[str, Mapping[str, Json]]]]:
        """Subject to what its statements say, oldest first, with their kinds."""
        self._denied: dict[Digest, frozenset[Digest]] = {}
        said: dict[str, list[tuple[str, Mapping[str, Json]]]] = defaultdict(list)
        events = self._registry.catalog.events(kinds=(EventKind.STATEMENT_ADDED, EventKind.STATEMENTS_DROPPED))
        for event in reversed(events):
            if event.kind is EventKind.STATEMENTS_DROPPED and self._gone(str(event.data["subject"])):
                said[str(event.data["subject"])] += _kept(event.data.get("said"))
        wanted = [event for event in reversed(events) if event.data.get("artifactType") in _TYPES]
        progress.start("reading statements", sum(_size(event.data) for event in wanted))
        try:
            for event in wanted:
                subject, kind = str(event.data["subject"]), str(event.data["artifactType"])
                manifest = Digest.parse(str(event.data["manifest"]))
                says = declared.get(str(manifest))
                if self._registry.blobs.size(manifest) is None and self._gone(subject):
                    says = {}  # the statement went with the artifact: what is remembered of it does not count
                elif says is None:
                    referrer = Referrer(Digest.parse(subject), manifest, kind, _size(event.data), event.at)
                    says = self._say(declared, referrer)
                said[subject].append((_TYPES[kind], says))
                progress.advance(_size(event.data))
        finally:
            progress.finish()
            declared.save()
        return said

    def _gone(self, subject: str) -> bool:
        """Whether no version is this artifact any more."""
        return all(version.gone for version in self._registry.catalog.by_manifest(Digest.parse(subject)))

    def _say(self, declared: Declared, referrer: Referrer) -> Mapping[str, Json]:
        try:
            return declared.add(str(referrer.manifest), self._registry.statement(referrer))
        except AssayError:
            self.unread += 1  # one damaged statement must not hide the lineage of everything else
            return {}

    def _edges(self, subject: Digest, says: Sequence[tuple[str, Mapping[str, Json]]]) -> list[Edge]:
        """The edges that hold: what files say, then what people said, in order, less what was taken back."""
        told = list(_mappings((_newest(says, "bases", "description") or {}).get("bases")))
        people = [base for kind, one in says if kind == "base" for base in _mappings(one.get("bases"))]
        held: dict[tuple[Relation, str], Edge] = {}
        denied: set[Digest] = set()
        for base in (*told, *sorted(people, key=_revision)):
            edge = self._edge(subject, base)
            if edge is None or edge.manifest == subject:
                continue
            if base.get("retracted") is True:
                held = {key: one for key, one in held.items() if not same(one, edge)}
                denied |= {edge.manifest} if edge.manifest else set()
            else:
                if edge.source is not Source.FILES:
                    # Who says how overrules the guess that a file's bare name allows.
                    held = {key: one for key, one in held.items() if not overrules(edge, one)}
                denied.discard(edge.manifest) if edge.manifest else None
                held[edge.relation, edge.target] = edge
        if denied:
            self._denied[subject] = frozenset(denied)
        run = _newest(says, "run")
        return [*held.values(), *([trained] if run and (trained := _trained(subject, run)) else [])]

    def _edge(self, subject: Digest, base: Mapping[str, Json]) -> Edge | None:
        """One ``base`` predicate as an edge; None when it has not the form of one."""
        name = base.get("name")
        try:
            relation = Relation(str(base.get("relation", Relation.FINETUNED_FROM)))
            source = Source(str(base.get("source", Source.GIVEN)))
            manifest = Digest.parse(str(base["manifest"])) if base.get("manifest") else None
        except (ValueError, InvalidInput):
            return None
        if not isinstance(name, str) or not name.strip() or relation is Relation.TRAINED_BY:
            return None
        evidence = base.get("evidence")
        body = dict(evidence) if isinstance(evidence, Mapping) else {}
        edge = Edge(subject=subject, relation=relation, name=name, manifest=manifest, source=source, evidence=body)
        return edge if manifest is not None else self._resolved(edge)

    def _resolved(self, edge: Edge) -> Edge:
        """The edge with the version that its name means here, if any."""
        named = hub_name(edge.name)
        versions, label = self._named(named)
        if not versions:
            own = self._own.get(named)
            return edge if own is None else replace(edge, manifest=Digest.parse(own))
        if label is not None:
            found = [version for version in versions if version.number == label]
            return replace(edge, manifest=found[0].manifest) if found else edge
        pushed = min((version.created for version in self.versions(edge.subject)), default=None)
        others = [version for version in versions if version.manifest != edge.subject]
        before = [version for version in others if pushed is None or version.created <= pushed]
        if not others:
            return edge
        chosen = (before or others[:1])[-1]
        why = "the newest when it was pushed" if before else "the first"
        return replace(edge, manifest=chosen.manifest, evidence={**edge.evidence, "version": why})

    def _named(self, name: str) -> tuple[Sequence[Version], int | None]:
        """Versions of the model that a name means, oldest first, and the number in it."""
        if is_path(name):
            return (), None
        try:
            reference = Reference.parse(name)
        except InvalidInput:
            return (), None
        if reference.host is not None or reference.alias is not None:
            return (), None
        if reference.name not in self._lines:
            self._lines[reference.name] = self._registry.catalog.versions(reference.name)[::-1]
        return self._lines[reference.name], reference.version


def remains(registry: Registry, subject: Digest, statements: Mapping[Digest, str]) -> list[Json]:
    """What the history keeps of statements about a removed artifact that are about to go: what says its lineage.

    Nothing is kept of what was purged.

    Args:
        registry: where they are.
        subject: the artifact.
        statements: digests of their manifests, and their artifact types.
    """
    if any(version.purged is not None for version in registry.catalog.by_manifest(subject)):
        return []
    found: list[Json] = []
    for referrer in registry.referrers(subject):
        if referrer.manifest not in statements or referrer.artifact_type not in _TYPES:
            continue
        try:
            says = lineage_of(registry.statement(referrer))
        except AssayError:
            continue  # a damaged statement says nothing, and must not keep the rest from going
        if any(says.values()):
            found.append({"kind": _TYPES[referrer.artifact_type], "says": says})
    return found


def _kept(value: Json) -> list[tuple[str, Mapping[str, Json]]]:
    """What ``remains`` kept, read back."""
    return [(str(one.get("kind")), says) for one in _mappings(value) if isinstance(says := one.get("says"), Mapping)]


def hub_name(text: str) -> str:
    """A name as files write it, in the form that model names have here: lower case, no address, no revision.

    >>> hub_name("https://huggingface.co/Org/Model/tree/main"), hub_name("Org/Model@v1"), hub_name("team/base:2")
    ('org/model', 'org/model', 'team/base:2')
    """
    found = _HUB.fullmatch(text.strip())
    name = found["name"] if found else text.strip().rstrip("/")
    return (name if _WRITTEN.match(name) else name.partition("@")[0]).lower()


def same(one: Edge, other: Edge) -> bool:
    """Whether two edges of one subject say the same thing about the same other end."""
    return one.relation is other.relation and (
        one.name == other.name or (one.manifest is not None and one.manifest == other.manifest)
    )


def overrules(edge: Edge, one: Edge) -> bool:
    """Whether what a person said about another artifact makes what a file says about it void."""
    return one.source is Source.FILES and (one.target == edge.target or one.name == edge.name)


def _trained(subject: Digest, run: Mapping[str, Json]) -> Edge | None:
    told = run.get("run")
    body = dict(told) if isinstance(told, Mapping) else {}
    system = str(body.get("system") or "unknown")
    name = body.get("uri") or (f"{system} run {body['run_id']}" if body.get("run_id") else f"a run of {system}")
    source = Source.GIVEN if body.get("source") == Source.GIVEN.value else Source.FILES
    evidence = {key: body[key] for key in ("system", "run_id", "uri", "extra") if body.get(key)}
    return Edge(subject=subject, relation=Relation.TRAINED_BY, name=str(name), source=source, evidence=evidence)


def _newest(
    says: Sequence[tuple[str, Mapping[str, Json]]], field: str, kind: str | None = None
) -> Mapping[str, Json] | None:
    """What the newest statement says that has a field."""
    found = (one for of, one in reversed(says) if field in one and kind in {None, of})
    newest = next(found, None)
    if newest is None:
        return None
    value = newest[field]
    return value if field == "audit" and isinstance(value, Mapping) else newest


def _revision(base: Mapping[str, Json]) -> int:
    value = base.get("revision")
    return value if isinstance(value, int) else 0


def _size(data: Mapping[str, Json]) -> int:
    size = data.get("size")
    return size if isinstance(size, int) else 0


def _mappings(value: Json) -> Iterable[Mapping[str, Json]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, (list, tuple)) else ()


def _strings(value: Json) -> Iterable[str]:
    return (hub_name(item) for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()
