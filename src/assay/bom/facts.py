"""Reading the facts: what every document says is looked up here, in one way."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeGuard
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.json import Json, canonical
from assay.spec.materials import Facts

MAX_ITEMS = 2_000
"""Parameters, metrics and data sets that a document lists; more belong into the statements they come from."""
_MAX_VALUE = 2_000
_SCP = re.compile(r"(?P<host>[\w.-]+@[\w.-]+):(?P<path>[^\s]+)")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/]", re.IGNORECASE)


class Library(NamedTuple):
    """A Python distribution the model was made with, or needs.

    Args:
        name: normalised (PEP 503).
        version: as recorded, or as the files pin it.
        observed: where it was seen: ``environment`` or ``files``.
    """

    name: str
    version: str
    observed: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{quote(self.name, safe='.-_')}@{quote(self.version, safe='.-_~')}"


class Base(NamedTuple):
    """What a model was made from.

    Args:
        name: as given or as the files name it.
        manifest: digest of it as an artifact, ``sha256:…``, where it is one.
        relation: ``finetuned-from``, or empty where only the files name it.
    """

    name: str
    manifest: str | None
    relation: str


class Data(NamedTuple):
    """A data set that is named.

    Args:
        name: as the files or the card name it.
        path: the entry that names it.
    """

    name: str
    path: str


def models(facts: Facts) -> Iterator[Mapping[str, Json]]:
    """The descriptions, leading one first."""
    for model in items(facts.inspection.get("models")):
        if isinstance(model, Mapping):
            yield model


def summary(facts: Facts, key: str) -> str | None:
    """A text of the summary."""
    body = facts.inspection.get("summary")
    value = body.get(key) if isinstance(body, Mapping) else None
    return value if isinstance(value, str) and value else None


def items(value: Json) -> Sequence[Json]:
    """The items of a JSON list, of anything else none."""
    return value if isinstance(value, list | tuple) else ()


def section(value: Json) -> Mapping[str, Json]:
    """A JSON object, of anything else an empty one."""
    return value if isinstance(value, Mapping) else {}


def libraries(facts: Facts) -> list[Library]:
    """What was recorded of the environment; where nothing was, the versions that the files pin."""
    environment = facts.said.get("environment", {})
    recorded = section(environment.get("distributions"))
    if recorded:
        found = [
            Library(str(canonicalize_name(name)), str(release), "environment") for name, release in recorded.items()
        ]
        return sorted(set(found))
    pinned = set()
    for text in items(section(facts.inspection.get("summary")).get("requirements")):
        try:
            requirement = Requirement(str(text))
        except InvalidRequirement:
            continue
        exact = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
        if len(exact) == 1:
            pinned.add(Library(str(canonicalize_name(requirement.name)), exact[0], "files"))
    return sorted(pinned)


def bases(facts: Facts) -> list[Base]:
    """What it was made from: as said, then as the files name it; each name once."""
    said = facts.said.get("base")
    found: dict[str, Base] = {}
    if said and isinstance(name := said.get("name"), str):
        manifest = said.get("manifest")
        relation = said.get("relation")
        found[name] = Base(name, manifest if _is_digest(manifest) else None, str(relation or ""))
    for model in models(facts):
        for named in items(model.get("base_models")):
            found.setdefault(str(named), Base(str(named), None, ""))
    return list(found.values())


def datasets(facts: Facts) -> list[Data]:
    """The data sets that the files name, each once."""
    found: dict[str, Data] = {}
    for model in models(facts):
        paths = items(model.get("paths"))
        named = section(model.get("metadata")).get("card_datasets")
        for one in (named,) if isinstance(named, str) else items(named):
            if isinstance(one, str) and one:
                found.setdefault(one, Data(one, str(paths[0]) if paths else ""))
    return list(found.values())[:MAX_ITEMS]


def metrics(facts: Facts) -> dict[str, str]:
    """Evaluation results: as said at push, and as the files hold them; what was said wins."""
    found: dict[str, Json] = {}
    for model in models(facts):
        for name, value in section(model.get("metrics")).items():
            found.setdefault(name, value)
    found.update(section(facts.said.get("metrics", {}).get("metrics")))
    return _texts(found)


def parameters(facts: Facts) -> dict[str, str]:
    """Training parameters as said, and hyper-parameters as the leading description reads them."""
    leading = next(models(facts), {})
    return _texts({**section(leading.get("hyperparameters")), **section(facts.said.get("params", {}).get("params"))})


def text(value: Json) -> str:
    """A JSON value as one line: text as it is, everything else as canonical JSON; shortened."""
    line = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return line if len(line) <= _MAX_VALUE else f"{line[:_MAX_VALUE]}…"


def urn(kind: str, name: str) -> str:
    """A URI for something known only by name; what is a URI already stays it."""
    return name if "://" in name else f"urn:assay:{kind}:{quote(name, safe='/.-_~@')}"


def location(value: Json) -> str | None:
    """Something's place as a URL; None when it is none. git's short form ``user@host:path`` is understood.

    >>> location("git@host.example:team/code.git"), location("run 7")
    ('ssh://git@host.example/team/code.git', None)
    """
    if not isinstance(value, str):
        return None
    if short := _SCP.fullmatch(value):
        value = f"ssh://{short['host']}/{short['path']}"
    if not _URL.match(value):
        return None
    return quote(value, safe=":/?#[]@!$&'()*+,;=%~-._")


def identity(body: Json) -> uuid.UUID:
    """A name for exactly this content (RFC 9562, version 5)."""
    return uuid.uuid5(uuid.NAMESPACE_URL, canonical(body).decode())


def _is_digest(value: Json) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(Digest.parse(value))
    except InvalidInput:
        return False


def _texts(values: Mapping[str, Json]) -> dict[str, str]:
    return {name: text(value) for name, value in list(values.items())[:MAX_ITEMS]}
