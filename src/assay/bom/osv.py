"""Known vulnerabilities of Python distributions, from an OSV export that somebody brought along. No network.

An export is a folder or a zip archive of OSV records, one JSON document each (``PyPI/all.zip`` of the OSV database, or
a part of it). Records are read one after the other; only those about distributions in question are kept.

What cannot be decided is never "no": a record that cannot be read, and a version that cannot be compared with a range,
are counted as undecided. An export without any record about Python distributions answers nothing.

Source: OSV schema 1.7, "Evaluation"; versions by PEP 440.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from assay.bom.facts import items, section
from assay.containers.guard import guarded
from assay.errors import BadFormat, InvalidInput, LimitExceeded, NotFound, StorageError
from assay.spec.json import Json
from assay.spec.vulnerabilities import Check, Vulnerability

MAX_RECORD = 32 << 20
"""Bytes of one record."""
MAX_RECORDS = 2_000_000
"""Records of one export."""
_ECOSYSTEM = "PyPI"
_MARK = b'"PyPI'
_MAX_TEXT = 500


def check(distributions: Mapping[str, str], export: Path) -> Check:
    """Look up every distribution in an OSV export.

    Args:
        distributions: name to version.
        export: a folder or zip archive of records.

    Raises:
        NotFound: there is no export (code ``path-not-found``).
        InvalidInput: it holds no record about Python distributions (code ``no-osv-records``).
        BadFormat: the archive is damaged.
        StorageError: it cannot be read.
    """
    wanted = {str(canonicalize_name(name)): release for name, release in distributions.items()}
    found: list[Vulnerability] = []
    undecided: list[str] = []
    records = 0
    for name, data in _records(export):
        if data is not None and _MARK not in data:
            continue
        record = _parse(data) if data is not None else None
        if record is None:
            undecided.append(f"{name}: not readable as an OSV record")
            continue
        if not any(_is_python(one) for one in _affected(record)):
            continue
        records += 1
        if record.get("withdrawn"):
            continue
        _judge(record, wanted, found, undecided)
    if not records:
        raise InvalidInput(
            f"{export} holds no OSV record about Python distributions",
            code="no-osv-records",
            hint="the PyPI export of the OSV database is one: a zip archive, or a folder, of JSON files",
        )
    return Check(
        vulnerabilities=tuple(sorted(_merged(found), key=lambda one: (one.package, one.id))),
        undecided=tuple(sorted(undecided)),
        distributions=len(wanted),
        records=records,
    )


def affects(affected: Mapping[str, Json], version: str) -> bool | None:
    """Whether *version* is among those that one ``affected`` entry means; None when that cannot be decided."""
    release = _version(version)
    listed = [str(one) for one in items(affected.get("versions"))]
    if version in listed or (release is not None and any(_version(one) == release for one in listed)):
        return True
    decided: bool | None = False
    for entry in items(affected.get("ranges")):
        span = section(entry)
        if span.get("type") not in ("ECOSYSTEM", "SEMVER"):
            continue  # commits say nothing about a release; its versions are listed beside them
        inside = _within(items(span.get("events")), release)
        if inside:
            return True
        if inside is None:
            decided = None
    return decided


def _within(events: Sequence[Json], release: Version | None) -> bool | None:
    """The state after the last event at or below *release*, as OSV evaluates a range."""
    if release is None:
        return None
    turns: list[tuple[Version | None, int, str]] = []
    for event in events:
        for kind, bound in section(event).items():
            if kind not in _ORDER:
                continue
            at = None if kind == "introduced" and bound == "0" else _version(str(bound))
            if at is None and not (kind == "introduced" and bound == "0"):
                return None
            turns.append((at, _ORDER[kind], kind))
    limits = [at for at, _, kind in turns if kind == "limit" and at is not None]
    if limits and not any(release < limit for limit in limits):
        return False
    inside = False
    for at, _, kind in sorted(turns, key=lambda turn: (turn[0] is not None, turn[0] or _ZERO, turn[1])):
        if kind == "introduced" and (at is None or release >= at):
            inside = True
        elif (kind == "fixed" and at is not None and release >= at) or (
            kind == "last_affected" and at is not None and release > at
        ):
            inside = False
    return inside


_ORDER = {"introduced": 0, "fixed": 1, "last_affected": 2, "limit": 3}
_ZERO = Version("0.dev0")


def _judge(
    record: Mapping[str, Json], wanted: Mapping[str, str], found: list[Vulnerability], undecided: list[str]
) -> None:
    name = str(record.get("id") or "?")[:_MAX_TEXT]
    hit: dict[str, list[Mapping[str, Json]]] = {}
    for affected in _affected(record):
        package = str(canonicalize_name(str(section(affected.get("package")).get("name"))))
        if not _is_python(affected) or package not in wanted:
            continue
        answer = affects(affected, wanted[package])
        if answer is None:
            undecided.append(f"{name}: its ranges cannot be compared with {package} {wanted[package]}")
        elif answer:
            hit.setdefault(package, []).append(affected)
    for package, entries in hit.items():
        found.append(
            Vulnerability(
                id=name,
                aliases=_names(record.get("aliases")),
                package=package,
                version=wanted[package],
                severity=_severity(record, entries),
                fixed=_fixed(entries, wanted[package]),
                summary=" ".join(str(record.get("summary") or "").split())[:_MAX_TEXT],
            )
        )


def _fixed(entries: Sequence[Mapping[str, Json]], version: str) -> tuple[str, ...]:
    """Releases above *version* in which it is fixed, lowest first."""
    now = _version(version)
    found: dict[Version, str] = {}
    for affected in entries:
        for span in items(affected.get("ranges")):
            if section(span).get("type") == "GIT":
                continue
            for event in items(section(span).get("events")):
                bound = str(section(event).get("fixed") or "")
                at = _version(bound) if bound else None
                if at is not None and (now is None or at > now):
                    found[at] = bound
    return tuple(found[at] for at in sorted(found))


def _severity(record: Mapping[str, Json], entries: Sequence[Mapping[str, Json]]) -> str:
    """A word where the database has one, else the vector."""
    for body in (record, *entries):
        for key in ("database_specific", "ecosystem_specific"):
            word = section(body.get(key)).get("severity")
            if isinstance(word, str) and word:
                return word.lower()[:40]
    for body in (record, *entries):
        for one in items(body.get("severity")):
            score = section(one).get("score")
            if isinstance(score, str) and score:
                return score[:200]
    return "unknown"


def _merged(found: Sequence[Vulnerability]) -> Iterator[Vulnerability]:
    """One entry for what several databases call differently."""
    groups: list[list[Vulnerability]] = []
    for one in sorted(found, key=lambda one: one.id):
        names = {one.id, *one.aliases}
        same = [
            group
            for group in groups
            if group[0].package == one.package and any(names & {other.id, *other.aliases} for other in group)
        ]
        merged = [*(other for group in same for other in group), one]
        groups = [group for group in groups if group not in same] + [merged]
    for group in groups:
        first = group[0]
        others = {name for one in group for name in (one.id, *one.aliases)} - {first.id}
        known = [one.severity for one in group if one.severity != "unknown"]
        words = [severity for severity in known if not severity.startswith("CVSS")]
        fixed = {release for one in group for release in one.fixed}
        yield Vulnerability(
            id=first.id,
            aliases=tuple(sorted(others)),
            package=first.package,
            version=first.version,
            severity=next(iter([*words, *known]), "unknown"),
            fixed=tuple(sorted(fixed, key=Version)),
            summary=next((one.summary for one in group if one.summary), ""),
        )


def _is_python(affected: Mapping[str, Json]) -> bool:
    ecosystem = section(affected.get("package")).get("ecosystem")
    return isinstance(ecosystem, str) and ecosystem.partition(":")[0] == _ECOSYSTEM


def _affected(record: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    return [one for one in items(record.get("affected")) if isinstance(one, Mapping)]


def _names(value: Json) -> tuple[str, ...]:
    return tuple(sorted({str(one)[:_MAX_TEXT] for one in items(value)}))


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _parse(data: bytes) -> Mapping[str, Json] | None:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, Mapping) and isinstance(record.get("id"), str) else None


def _records(export: Path) -> Iterator[tuple[str, bytes | None]]:
    """Name and bytes of each record; None for bytes that are too many."""
    if export.is_dir():
        yield from _folder(export)
    elif export.is_file():
        yield from _archive(export)
    else:
        raise NotFound(f"no such file or folder: {export}", code="path-not-found")


def _folder(export: Path) -> Iterator[tuple[str, bytes | None]]:
    try:
        for count, file in enumerate(sorted(export.rglob("*.json"))):
            _bound(count, export)
            if file.is_file():
                small = file.stat().st_size <= MAX_RECORD
                yield file.relative_to(export).as_posix(), file.read_bytes() if small else None
    except OSError as error:
        raise StorageError.of(error, f"{export} cannot be read") from error


def _archive(export: Path) -> Iterator[tuple[str, bytes | None]]:
    try:
        archive = zipfile.ZipFile(export)
    except zipfile.BadZipFile as error:
        raise BadFormat(f"{export} is neither a folder nor a zip archive ({error})", path=str(export)) from error
    except OSError as error:
        raise StorageError.of(error, f"{export} cannot be read") from error
    with closing(archive):
        for count, member in enumerate(archive.infolist()):
            _bound(count, export)
            if member.filename.endswith(".json"):
                yield member.filename, _member(archive, member, export)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, export: Path) -> bytes | None:
    if member.file_size > MAX_RECORD:
        return None
    with guarded("a zip archive", str(export)):
        try:
            with archive.open(member) as stream:
                return stream.read(MAX_RECORD)
        except NotImplementedError as error:
            message = f"{export}: {member.filename} is packed in a way that is not read"
            raise BadFormat(message, path=str(export)) from error


def _bound(count: int, export: Path) -> None:
    if count >= MAX_RECORDS:
        raise LimitExceeded(f"{export} holds more than {MAX_RECORDS:,} files", path=str(export))
