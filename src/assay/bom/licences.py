"""Licences: which ones lie in an artifact's files, and which ones its metadata names.

A licence text is recognised by short phrases that only it has, on text without case, punctuation and line breaks, so
that a filled-in copyright line or another layout changes nothing. What is not recognised has no identifier; a rider
that forbids commercial use is recognised beside a permissive or unknown text. Metadata is not believed: when it names
another licence than the text beside it, that is a conflict, and a fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from posixpath import basename, dirname, splitext

from assay.bom.licence_names import PERMISSIVE, RULES, canonical_names, family
from assay.containers.documents import parse_yaml
from assay.errors import AssayError
from assay.spec.json import Json
from assay.spec.materials import LicenceClaim, LicenceConflict, Licences
from assay.trees import Tree

MAX_TEXT = 1 << 20
"""Bytes of a licence file or model card that are read."""
MAX_FILES = 200
"""Licence files that are read; an artifact with more is not one model."""
NON_COMMERCIAL = "LicenseRef-non-commercial"
"""Name of a licence text, or of a rider on one, that allows no commercial use and is none of the known ones."""

_FILE = re.compile(r"(licen[cs]es?|copying|unlicense|eula|use_policy)([-_. ].*)?|.*[-_. ]licen[cs]e", re.IGNORECASE)
_NOTICE = re.compile(r"(notice|third[-_ ]?party.*)([-_. ].*)?", re.IGNORECASE)
_PARTS = frozenset("third_party third-party thirdparty vendor vendored _vendor licenses licences".split())
_TEXTS = frozenset({"", ".txt", ".md", ".rst", ".text", ".html"})
_CARDS = frozenset({"readme.md", "modelcard.md", "model_card.md"})
_MANIFESTS = _CARDS | {"meta.json", "mlmodel", "config.json", "model_index.json"}
_PACKAGES = frozenset({"metadata", "pkg-info"})
_WORDS = re.compile(r"[^a-z0-9]+")
_RIDERS = (
    "non commercial use only",
    "noncommercial use only",
    "non commercial research",
    "noncommercial research",
    "non commercial purposes only",
    "noncommercial purposes only",
    "non commercial academic",
    "academic non commercial",
    "academic and non commercial",
    "commercial use is prohibited",
    "commercial use is not permitted",
    "commercial use is not allowed",
    "not for commercial use",
    "for academic use only",
    "for research use only",
    "for research purposes only",
    "academic research purposes only",
)


def read_licences(tree: Tree, inspection: Mapping[str, Json]) -> Licences:
    """Everything *tree* says about its licence.

    Args:
        tree: the files.
        inspection: what formats read in them, as ``docs/spec/description.md`` says.
    """
    claims = list(dict.fromkeys([*_texts(tree), *_cards(tree), *_described(inspection)]))
    claims = _without_echoes(claims)
    return Licences(tuple(claims), tuple(conflicts(claims)))


def identify(text: str) -> tuple[str, ...]:
    """The licences whose text this is.

    >>> identify("Licensed under the Apache License, Version 2.0 (the 'License')")
    ('Apache-2.0',)
    """
    plain = f" {_WORDS.sub(' ', text.casefold().replace('++', ' plusplus '))} "
    found = list(dict.fromkeys(rule.name for rule in RULES if rule.matches(plain)))
    if (not found or PERMISSIVE.intersection(found)) and any(f" {rider} " in plain for rider in _RIDERS):
        found.append(NON_COMMERCIAL)
    return tuple(found)


def conflicts(claims: Sequence[LicenceClaim]) -> Iterator[LicenceConflict]:
    """Where metadata names other licences than the texts beside or above it hold."""
    texts = [claim for claim in claims if claim.text and claim.identifiers and not claim.third_party]
    for named in claims:
        if named.text or not named.identifiers:
            continue
        near = [text for text in texts if _above(dirname(text.path), dirname(named.path))]
        there = {family(name) for text in near for name in text.identifiers}
        stated = {family(name) for name in named.identifiers}
        for text in near:
            own = {family(name) for name in text.identifiers}
            rider = NON_COMMERCIAL in own and bool(stated & PERMISSIVE)
            if rider or not (stated & there):
                yield LicenceConflict(named, text)


def _above(folder: str, other: str) -> bool:
    return not folder or folder == other or other.startswith(f"{folder}/")


def _texts(tree: Tree) -> Iterator[LicenceClaim]:
    count = 0
    for path in tree.paths:
        stem, ending = splitext(basename(path))
        if ending.lower() not in _TEXTS:
            stem = basename(path)  # LICENSE.apache: the ending is part of the name
        notice = bool(_NOTICE.fullmatch(stem))
        if not notice and not _FILE.fullmatch(stem):
            continue
        if splitext(stem)[1].lower() in {".json", ".py", ".yaml", ".yml", ".pkl", ".bin"}:
            continue
        count += 1
        if count > MAX_FILES:
            return
        text = _text(tree, path)
        if text is None:
            continue
        apart = notice or bool(_PARTS & {part.lower() for part in path.split("/")[:-1]})
        yield LicenceClaim(path, _first_line(text), identify(text), text=True, third_party=apart)


def _cards(tree: Tree) -> Iterator[LicenceClaim]:
    count = 0
    for path in tree.paths:
        name = basename(path).lower()
        if name not in _CARDS and name not in _PACKAGES:
            continue
        count += 1
        text = _text(tree, path) if count <= MAX_FILES else None
        if text is None:
            continue
        stated = _front_matter(text, path) if name in _CARDS else _headers(text)
        for one in stated:
            yield LicenceClaim(path, one[:200], canonical_names(one), text=False)


def _described(inspection: Mapping[str, Json]) -> Iterator[LicenceClaim]:
    """What formats found in the files' own metadata."""
    models = inspection.get("models")
    for model in models if isinstance(models, list | tuple) else ():
        if not isinstance(model, Mapping):
            continue
        paths, stated = model.get("paths"), model.get("licenses")
        path = _speaker([str(one) for one in paths] if isinstance(paths, list | tuple) else [])
        for one in stated if isinstance(stated, list | tuple) else ():
            text = str(one)
            long = identify(text) if len(text) > 60 else ()
            yield LicenceClaim(path, _first_line(text), long or canonical_names(text), text=False)


def _speaker(paths: Sequence[str]) -> str:
    """The entry of a description that most likely names its licence: no licence text, a card or manifest first."""
    named = sorted((path for path in paths if not _FILE.fullmatch(basename(path))), key=_rank)
    return next(iter((*named, *paths)), "")


def _rank(path: str) -> tuple[bool, int]:
    return basename(path).lower() not in _MANIFESTS, path.count("/")


def _without_echoes(claims: Iterable[LicenceClaim]) -> list[LicenceClaim]:
    """Claims without those of a format that only repeat what a card of the same folder says."""
    kept: list[LicenceClaim] = []
    cards: set[tuple[str, str]] = set()
    for claim in claims:
        key = (dirname(claim.path), claim.stated)
        if not claim.text and key in cards:
            continue
        if not claim.text:
            cards.add(key)
        kept.append(claim)
    return kept


def _front_matter(text: str, path: str) -> list[str]:
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return []
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return []
    try:
        card = parse_yaml("\n".join(lines[1:end]), path)
    except AssayError:
        return []  # the format that reads the card reports it
    if not isinstance(card, Mapping):
        return []
    value = card.get("license_name") if card.get("license") == "other" else card.get("license")
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str) and item]


def _headers(text: str) -> list[str]:
    """Licence fields of a Python distribution's core metadata."""
    head = text.split("\n\n", 1)[0].splitlines()
    fields = dict(line.split(":", 1) for line in reversed(head) if ":" in line and not line.startswith((" ", "\t")))
    value = fields.get("License-Expression") or fields.get("License") or ""
    return [value.strip()] if value.strip() and value.strip().upper() != "UNKNOWN" else []


def _text(tree: Tree, path: str) -> str | None:
    """An entry as text; None when it is too large or cannot be read."""
    if tree.size(path) > MAX_TEXT:
        return None
    try:
        data = tree.open(path).read(0, tree.size(path))
    except AssayError:
        return None
    return None if b"\0" in data else data.decode("utf-8", "replace")


def _first_line(text: str) -> str:
    return next((" ".join(line.split())[:120] for line in text.splitlines() if line.strip(" #=-*\t")), "")
