"""Names: what an entry's name can do where it is written out, and names that cannot lie beside each other.

The same rules hold for the entries of an artifact and for the members of an archive inside it (``assay.audit.archives``
asks). A name that reaches outside the folder it is unpacked into is as good as a way to write anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.spec.paths import MAX_COMPONENT
from assay.trees import Tree

MAX_EQUAL = 20
"""Findings of one rule about the names of one archive."""
MAX_LENGTH = 4096
"""Bytes of a whole name that some system can write."""

_PLAIN = re.compile(r"[A-Za-z0-9_\-+=@(){}\[\],./]+")
_RESERVED = re.compile(
    r"(?:^|/)(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³]|conin\$|conout\$) *(?:[./]|$)", re.IGNORECASE
)
_DRIVE = re.compile(r"[A-Za-z]:")
_STREAM = re.compile(r".+:\$[A-Za-z_]+|.*\.[A-Za-z]\w{0,4}:(?!\d{1,2}\.npy\Z)[^:]+", re.DOTALL)
# TensorFlow numbers what its operations give, so arrays saved by name are "encoder.bias:0.npy" in their archive.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_INVISIBLE = frozenset("\u200b\u2060\ufeff\u00ad\u180e\u3164\u2028\u2029")
_OUTSIDE = "write a file outside the folder it is unpacked into"


class NamesAuditor:
    """Looks at the names of a tree's entries."""

    name = "names"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:  # noqa: ARG002 - the port
        """What the names of the entries can do; of each entry, at its path."""
        return name_findings(tree.paths)


def name_findings(names: Iterable[str], archive: str = "") -> list[Finding]:
    """What is dangerous or ambiguous about names that are written into one folder.

    Args:
        names: as they are stated, a folder's with a slash at its end.
        archive: path of the archive whose members they are; the findings are then about it, the name is evidence.
    """
    said: dict[str, int] = {}
    findings: list[Finding] = []
    listed = list(names)
    for name in listed:
        if _simple(name):
            continue
        for finding in _problems(name, _About(archive or name, _shown(name))):
            _say(findings, said, finding)
    for first, second in _twins(listed):
        message = (
            f"{_shown(first)} and {_shown(second)} cannot lie beside each other everywhere: readers see one of them"
        )
        _say(findings, said, Finding("name-twins", Severity.MISLEAD, message, archive or second, None, _shown(second)))
    return findings


@dataclass(frozen=True, slots=True)
class _About:
    """The entry a finding is about, and the name as it is shown."""

    path: str
    evidence: str

    def report(self, rule: str, severity: Severity, message: str, effect: str = "") -> Finding:
        """A finding about the name."""
        return Finding(rule, severity, message, self.path, None, self.evidence, effect)


def _say(findings: list[Finding], said: dict[str, int], finding: Finding) -> None:
    said[finding.rule] = said.get(finding.rule, 0) + 1
    if said[finding.rule] <= MAX_EQUAL:
        findings.append(finding)


def _simple(name: str) -> bool:
    """Whether a name is so plain that no rule needs to be asked."""
    return (
        len(name) <= MAX_COMPONENT
        and _PLAIN.fullmatch(name) is not None
        and not name.startswith("/")
        and "//" not in name
        and "./" not in name
        and not name.endswith(".")
        and _RESERVED.search(name) is None
    )


def _problems(name: str, about: _About) -> Iterable[Finding]:
    """Everything wrong with one name."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or any(part.strip(" ") == ".." for part in parts):
        yield about.report("name-parent", Severity.WRITE, "the name leaves its folder by '..'", _OUTSIDE)
    if name.startswith(("\\\\", "//")):
        yield about.report(
            "name-server", Severity.NETWORK, "the name is a path on another machine", "write to another machine"
        )
    elif name.startswith(("/", "\\")):
        yield about.report("name-absolute", Severity.WRITE, "the name is absolute", _OUTSIDE)
    elif _DRIVE.match(name):
        yield about.report("name-drive", Severity.WRITE, "the name begins with a drive letter", _OUTSIDE)
    elif "\\" in name:
        yield about.report(
            "name-backslash", Severity.MISLEAD, "a backslash is a folder to some systems and a letter to others"
        )
    yield from _ambiguous(name, about)
    inner = name.removeprefix("./").rstrip("/").split("/")  # tar writes "./" before every name
    if not name.startswith("/") and any(part in {"", "."} for part in inner) and name != "./":
        yield about.report(
            "name-empty-part", Severity.MISLEAD, "the name has an empty part: two readers write it differently"
        )
    if _RESERVED.search(name):
        yield about.report("name-reserved", Severity.MISLEAD, "the name is a device on Windows")
    if any(_STREAM.fullmatch(part) for part in inner):
        yield about.report("name-stream", Severity.MISLEAD, "the name means a hidden stream of another file on Windows")
    if any(part != part.rstrip(". ") and part not in {".", ".."} for part in inner):
        yield about.report("name-trailing", Severity.MISLEAD, "a part ends with a dot or blank, which Windows drops")
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_LENGTH or any(len(part.encode("utf-8", "surrogatepass")) > MAX_COMPONENT for part in inner):
        yield about.report(
            "name-overlong", Severity.MISLEAD, f"the name of {len(encoded):,} bytes is longer than systems can write"
        )


def _ambiguous(name: str, about: _About) -> Iterable[Finding]:
    """What is wrong with a name's characters."""
    if "\0" in name:
        yield about.report("name-nul", Severity.MISLEAD, "the name holds a NUL: some readers cut it there")
    if any(unicodedata.category(character) == "Cc" and character != "\0" for character in name):
        yield about.report(
            "name-control", Severity.MISLEAD, "the name holds control characters, which change what a terminal shows"
        )
    if not _BIDI.isdisjoint(name) or not _INVISIBLE.isdisjoint(name):
        yield about.report("name-invisible", Severity.MISLEAD, "the name holds characters that hide or reorder others")
    if any("\ud800" <= character <= "\udfff" for character in name):
        yield about.report("name-encoding", Severity.MISLEAD, "the name is not UTF-8")


def _twins(names: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Pairs of names that are one file on some system, or a file and a folder at once; exact repeats are not ours."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = name if name.isascii() else unicodedata.normalize("NFC", name)
        key = key.casefold() if key.isascii() else unicodedata.normalize("NFC", key.casefold())
        if key.endswith("/"):
            folders.setdefault(key.rstrip("/"), name)
            continue
        known = files.setdefault(key, name)
        if known != name:
            yield known, name
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = name
            folder = folder.rpartition("/")[0]
    for key in files.keys() & folders.keys():
        yield folders[key], files[key]


def _shown(name: str) -> str:
    """A name as one line of plain text: control and invisible characters written out."""
    return ascii(name)[1:-1][:200] if not name.isascii() or not name.isprintable() else name[:200]
