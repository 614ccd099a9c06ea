"""SPDX 3.0.1 with the AI profile, as JSON-LD.

One graph: the document, an ``ai_AIPackage`` for the model, a file for each entry, packages for distributions, data sets
and base models, licence expressions, and the relationships between them. Conformance to the AI profile is claimed only
where everything it demands was observed (``docs/spec/provenance.md``). A base model is a plain package: nobody here
knows what the profile demands of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from assay.bom.facts import bases, datasets, identity, libraries, metrics, parameters, section, summary, text
from assay.bom.licence_names import expression
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.materials import Facts, LicenceClaim

PREDICATE_TYPE = "https://spdx.dev/Document"
_CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_NO_ASSERTION = "expandedlicensing_NoAssertionLicense"
_CREATION = "_:creation"


def spdx(facts: Facts) -> dict[str, Json]:
    """The SPDX document of *facts*."""
    graph = _Graph(facts)
    graph.build()
    return {"@context": _CONTEXT, "@graph": graph.elements}


class _Graph:
    """The elements of one document, in the order they are made.

    Args:
        facts: what is described.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._base = f"urn:uuid:{identity(_seed(facts))}"
        self.elements: list[Json] = []
        self._named: list[str] = []
        self._relationships = 0

    def build(self) -> None:
        """Make everything; the document itself comes first."""
        facts = self._facts
        tool = self._id("tool")
        creation: dict[str, Json] = {
            "type": "CreationInfo",
            "@id": _CREATION,
            "specVersion": "3.0.1",
            "created": _time(facts.created),
            "createdBy": [tool],
        }
        self._add("SoftwareAgent", "tool", {"name": f"Assay {facts.tool}"})
        model = self._model()
        self._parts(model)
        self._beside(model)
        self._licences(model)
        document: dict[str, Json] = {
            "type": "SpdxDocument",
            "spdxId": self._id("document"),
            "creationInfo": _CREATION,
            "name": f"bill of materials of {facts.name}",
            "profileConformance": list(self._profiles()),
            "rootElement": [model],
            "element": list(self._named),
        }
        self.elements[:0] = [creation, document]

    def _profiles(self) -> Iterator[str]:
        yield from ("core", "software", "simpleLicensing")
        facts = self._facts
        if facts.version is not None and facts.supplier and facts.released is not None:
            yield "ai"

    def _model(self) -> str:
        facts = self._facts
        body: dict[str, Json] = {
            "name": facts.name,
            "verifiedUsing": [_hash(facts.digest)],
            "software_primaryPurpose": "model",
            "software_packageVersion": str(facts.version) if facts.version is not None else None,
            "software_downloadLocation": f"oci:{facts.name}@{facts.digest}" if facts.version is not None else None,
            "releaseTime": _time(facts.released) if facts.released is not None else None,
            "summary": text(audited) if (audited := facts.said.get("audit", {}).get("summary")) else None,
            "ai_domain": [task] if (task := summary(facts, "task")) else None,
            "ai_typeOfModel": [kind] if (kind := summary(facts, "architecture")) else None,
            "ai_hyperparameter": _dictionary(parameters(facts)),
            "ai_metric": _dictionary(metrics(facts)),
            "ai_informationAboutTraining": self._training(),
            "comment": "; ".join(one.message for one in facts.licences.conflicts),
        }
        if facts.supplier:
            body["suppliedBy"] = self._add("Agent", "supplier", {"name": facts.supplier})
        return self._add("ai_AIPackage", "model", body)

    def _training(self) -> str | None:
        """Where and with what code it was trained, as far as it was said."""
        said = self._facts.said
        known: dict[str, Json] = {}
        if run := {key: value for key, value in said.get("run", {}).items() if key in ("system", "run_id", "uri")}:
            known["run"] = run
        environment = said.get("environment", {})
        for key in ("git", "python", "platform", "command"):
            if environment.get(key):
                known[key] = environment[key]
        return text(known) if known else None

    def _parts(self, model: str) -> None:
        files = []
        for number, entry in enumerate(sorted(self._facts.entries, key=lambda entry: entry.path)):
            body: dict[str, Json] = {"name": entry.path, "verifiedUsing": [_hash(entry.digest)]}
            files.append(self._add("software_File", f"file-{number}", body))
        self._relate(model, "contains", files, complete=True)

    def _beside(self, model: str) -> None:
        needs = []
        for number, one in enumerate(libraries(self._facts)):
            body: dict[str, Json] = {
                "name": one.name,
                "software_packageVersion": one.version,
                "software_packageUrl": one.purl,
                "software_primaryPurpose": "library",
                "comment": f"observed in the {'environment of the push' if one.observed == 'environment' else 'files'}",
            }
            needs.append(self._add("software_Package", f"library-{number}", body))
        self._relate(model, "dependsOn", needs)
        data = []
        for number, named in enumerate(datasets(self._facts)):
            body = {"name": named.name, "dataset_datasetType": ["noAssertion"], "software_primaryPurpose": "data"}
            data.append(self._add("dataset_DatasetPackage", f"dataset-{number}", body))
        self._relate(model, "trainedOn", data)
        ancestors = []
        for number, base in enumerate(bases(self._facts)):
            hashes = [_hash(Digest.parse(base.manifest))] if base.manifest else None
            body = {"name": base.name, "verifiedUsing": hashes, "software_primaryPurpose": "model"}
            ancestors.append(self._add("software_Package", f"base-{number}", body))
        self._relate(model, "descendantOf", ancestors)

    def _licences(self, model: str) -> None:
        """Declared is what metadata names, else what the texts are; concluded is the texts, unless they contradict."""
        licences = self._facts.licences
        texts = _expression([claim for claim in licences.claims if claim.text])
        declared = _expression([claim for claim in licences.claims if not claim.text]) or texts
        concluded = "" if licences.conflicts else texts or declared
        made: dict[str, str] = {}
        for kind, licence in (("hasDeclaredLicense", declared), ("hasConcludedLicense", concluded)):
            if not licence:
                self._relate(model, kind, [_NO_ASSERTION])
                continue
            if licence not in made:
                body: dict[str, Json] = {"simplelicensing_licenseExpression": licence}
                made[licence] = self._add("simplelicensing_LicenseExpression", f"licence-{len(made)}", body)
            self._relate(model, kind, [made[licence]])

    def _add(self, kind: str, name: str, body: Mapping[str, Json]) -> str:
        identifier = self._id(name)
        kept = {key: value for key, value in body.items() if value not in (None, "", [])}
        self.elements.append({"type": kind, "spdxId": identifier, "creationInfo": _CREATION, **kept})
        self._named.append(identifier)
        return identifier

    def _relate(self, start: str, kind: str, ends: Sequence[str], *, complete: bool = False) -> None:
        if not ends:
            return
        self._relationships += 1
        body: dict[str, Json] = {"from": start, "relationshipType": kind, "to": list(ends)}
        if complete:
            body["completeness"] = "complete"
        self._add("Relationship", f"relationship-{self._relationships}", body)

    def _id(self, name: str) -> str:
        return f"{self._base}#{name}"


def _expression(claims: Sequence[LicenceClaim]) -> str:
    """The claims about the whole as one SPDX expression: all of them hold, where none offers a choice."""
    parts: dict[str, None] = {}
    for claim in claims:
        if claim.third_party:
            continue
        stated = None if claim.text else expression(claim.stated)
        for part in (stated,) if stated else claim.identifiers:
            parts[f"({part})" if " OR " in part else part] = None
    if len(parts) == 1:
        return next(iter(parts)).removeprefix("(").removesuffix(")")
    return " AND ".join(parts)


def _seed(facts: Facts) -> dict[str, Json]:
    """What tells one document from another."""
    return {
        "digest": str(facts.digest),
        "name": facts.name,
        "version": facts.version,
        "tool": facts.tool,
        "created": _time(facts.created),
        "said": {kind: section(predicate) for kind, predicate in facts.said.items()},
    }


def _hash(digest: Digest) -> dict[str, Json]:
    return {"type": "Hash", "algorithm": digest.algorithm, "hashValue": digest.hex}


def _dictionary(values: Mapping[str, str]) -> list[Json]:
    return [{"type": "DictionaryEntry", "key": key, "value": value} for key, value in values.items()]


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
