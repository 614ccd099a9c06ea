"""Archives: what is odd about them, and their members as a tree that is audited like any other.

``ArchivesAuditor`` looks at every zip of a tree, also those that a format describes: whether all readers see the same
archive, and whether its names can be written anywhere. ``expand`` opens what no format describes: its members become
entries of a tree of their own, and whoever audits asks it again for archives inside.

Nothing is written out; members are inflated as far as somebody reads them, within bounds.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from posixpath import basename, dirname, normpath

from assay.audit.names import name_findings
from assay.containers import magic, tar
from assay.containers.archive import Archive, Member, is_archive, open_archive
from assay.containers.compressed import codec_of, peek, unwrap
from assay.containers.inflating import FAIR, InflatingSource, PartSource
from assay.errors import AssayError, BadFormat, MissingDependency
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.trees import Budget, Source, Tree, Window

MAX_INFLATED = 4 << 30
"""Bytes that all members of one archive may state together."""
MAX_RATIO = 200
"""Bytes out per byte in, from which on an archive of more than ``FREE`` bytes is taken for a bomb."""
FREE = 256 << 20
_ALLOWANCE = "archives-allowance"
MAX_LINK = 4096
_DEFLATED = 8

_CLASSIFY = ("torch", "pytorch")
# Formats (as their names begin) that classify every member themselves; archives that nobody describes are opened.
_UNREAD = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"MSCF\0\0\0\0", "cabinet"),
    (b"!<arch>\n", "ar"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"xar!", "xar"),
    (b"hsqs", "SquashFS"),
    (b"070701", "cpio"),
    (b"070707", "cpio"),
    (b"LZIP", "lzip"),
)
_OUTSIDE = "read or write a file outside the folder it is unpacked into"
_EMPTY_ZIP = b"PK\x05\x06"
_SPANNED = b"PK\x07\x08"


@dataclass(frozen=True, slots=True)
class Expanded:
    """An archive opened.

    Args:
        tree: its members; none where it cannot be read here.
        findings: what is odd about the archive itself, at the archive's path.
    """

    tree: Tree
    findings: Sequence[Finding] = ()


class ArchivesAuditor:
    """Looks at the zip archives of a tree, whether a format describes them or not."""

    name = "archives"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        """What is odd about every zip: structure, names, links, sizes."""
        findings: list[Finding] = []
        described = {path: found.format for found in inspection.descriptions for path in found.paths}
        for path in tree:
            if not is_archive(tree.head(path)):
                continue
            try:
                archive = open_archive(tree, path)
            except AssayError as error:
                findings.append(_unreadable(path, error))
                continue
            findings += zip_findings(archive)
            if not described.get(path, "torch").startswith(_CLASSIFY):
                findings += _foreign(archive)
        return findings


def expand(tree: Tree, path: str) -> Expanded | None:
    """Open an entry as an archive; None when it is none.

    Compressed entries that are no tar become a tree of one entry, named without the suffix.
    """
    head = tree.head(path)
    if is_archive(head) or head[:4] in (_EMPTY_ZIP, _SPANNED):
        return _expand_zip(tree, path)
    if tar.is_tar(head):
        return _expand_tar(tree, tree.open(path))
    for signature, kind in _UNREAD:
        if head.startswith(signature):
            message = f"archives of {kind} are not read here: nothing is known about what is inside"
            return Expanded(Tree.of({}), [Finding("archive-unsupported", Severity.INCOMPLETE, message, path, 0)])
    if codec_of(head) is None or not peek(head)[1]:
        return None
    return _expand_compressed(tree, path)


def _unreadable(path: str, error: AssayError) -> Finding:
    return Finding(
        "archive-unreadable", Severity.INCOMPLETE, f"the archive cannot be read: {error.message}"[:400], path
    )


def _foreign(archive: Archive) -> Iterable[Finding]:
    """Pickles and programs in an archive of a format that has none; what the format reads it describes itself."""
    for member in archive.members:
        head = archive.head(member, 4096)
        kind = magic.kind_of(head)
        if kind is not None and kind != magic.ZIP:  # some keep sparse matrices, which are zips
            message = f"member {member.name!r:.120} is a {kind}, which has no place in the archive"
            where = archive.window.start + member.offset
            evidence = head[:16].hex(" ")
            yield Finding("archive-foreign-member", Severity.INCOMPLETE, message, archive.window.path, where, evidence)


# --- zip ---


def zip_findings(archive: Archive) -> list[Finding]:
    """What is odd about a zip: its structure, its names, links among its members, and what it would take to inflate."""
    path = archive.window.path
    archive.verify()
    findings = [*archive.findings, *name_findings(archive.names, path)]
    for member in archive.members:
        kind = stat.S_IFMT(member.mode)
        if kind == stat.S_IFLNK:
            findings += _zip_link(archive, member)
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            findings.append(_special(path, member.name, "device or pipe", member.header))
        elif kind == stat.S_IFREG and member.mode & (stat.S_ISUID | stat.S_ISGID):
            findings.append(_privileged(path, member.name, member.header))
    size = sum(member.size for member in archive.members)
    return [*findings, *_bomb(path, size, archive.window.size)]


def _zip_link(archive: Archive, member: Member) -> Iterable[Finding]:
    try:
        target = archive.read(member.name, MAX_LINK).decode("utf-8", "surrogateescape")
    except AssayError as error:
        return [_unreadable(archive.window.path, error)]
    return _link(archive.window.path, member.name, target, member.header)


def _expand_zip(tree: Tree, path: str) -> Expanded:
    try:
        archive = open_archive(tree, path)
    except AssayError as error:
        return Expanded(Tree.of({}), [_unreadable(path, error)])
    findings = zip_findings(archive)
    if any(finding.severity is Severity.EXHAUST for finding in findings):
        return Expanded(Tree.of({}), findings)
    allowance = _allowance(tree)
    sources: dict[str, Source] = {}
    for member in archive.members:
        if stat.S_ISLNK(member.mode) or member.encrypted:
            continue
        source = _zip_source(archive, member, allowance, findings)
        if source is not None:
            sources[member.name] = source
    return Expanded(_tree(tree, sources), findings)


def _zip_source(archive: Archive, member: Member, allowance: Budget, findings: list[Finding]) -> Source | None:
    window = archive.window
    try:
        raw = window.sub(member.offset, member.compressed_size)
        if raw.size != member.compressed_size:
            raise BadFormat(f"member {member.name!r:.120} ends after the file does", path=window.path)
        if member.stored:
            return PartSource(raw)
        if member.method == _DEFLATED:
            return InflatingSource(raw, member.size, allowance)
        return None  # the reader of zips says so
    except AssayError as error:
        findings.append(_unreadable(window.path, error))
        return None


# --- tar ---


def _expand_tar(tree: Tree, window: Window, outer: Sequence[Finding] = ()) -> Expanded:
    path = window.path
    findings = list(outer)
    try:
        members, odd = tar.read_tar(window)
    except AssayError as error:
        return Expanded(Tree.of({}), [*findings, _unreadable(path, error)])
    names = [f"{member.name}/" if member.kind is tar.Kind.FOLDER else member.name for member in members]
    findings += [*odd, *name_findings(names, path)]
    twice = [name for name, count in Counter(names).items() if count > 1 and not name.endswith("/")]
    if twice:
        message = f"{len(twice):,} member names occur more than once, such as {twice[0]!r:.120}"
        findings.append(Finding("tar-duplicate-member", Severity.MISLEAD, message, path))
    links: set[str] = set()
    sources: dict[str, Source] = {}
    for member in members:
        if _through(member.name, links):
            message = f"member {member.name!r:.120} is written through a link among the members"
            findings.append(
                Finding("archive-link-write", Severity.WRITE, message, path, member.header, effect=_OUTSIDE)
            )
        if member.kind in (tar.Kind.SYMLINK, tar.Kind.HARDLINK):
            links.add(normpath(member.name))
            findings += _link(path, member.name, member.target, member.header, hard=member.kind is tar.Kind.HARDLINK)
        elif member.kind in (tar.Kind.DEVICE, tar.Kind.PIPE):
            findings.append(_special(path, member.name, member.kind.value, member.header))
        elif member.kind is not tar.Kind.FOLDER:
            if member.mode & (stat.S_ISUID | stat.S_ISGID):
                findings.append(_privileged(path, member.name, member.header))
            sources[member.name.removeprefix("./")] = PartSource(window.sub(member.offset, member.size))
    return Expanded(_tree(tree, sources), _few(findings))


def _through(name: str, links: set[str]) -> bool:
    folder = dirname(normpath(name)) if links else ""
    while folder not in {"", "/"}:
        if folder in links:
            return True
        folder = dirname(folder)
    return False


# --- compressed ---


def _expand_compressed(tree: Tree, path: str) -> Expanded | None:
    allowance = _allowance(tree)
    fair = FAIR * tree.size(path)
    try:
        inside = unwrap(tree.open(path), min(MAX_INFLATED, fair + allowance.limit - allowance.used))
        allowance.charge(max(0, inside.window.size - fair), path)
    except MissingDependency as error:
        message = f"it is compressed, and cannot be read here: {error.message}"
        return Expanded(Tree.of({}), [Finding("archive-unsupported", Severity.INCOMPLETE, message, path, 0)])
    except AssayError as error:
        if codec_of(tree.head(path)) in {"zlib", "lzma"}:  # no magic numbers worth the name
            return None
        return Expanded(Tree.of({}), [Finding("archive-bomb", Severity.EXHAUST, error.message[:400], path, 0)])
    if not inside.codecs:
        return None
    if tar.is_tar(inside.window.read(0, 512)):
        return _expand_tar(tree, inside.window, inside.findings)
    name = basename(path)
    stem, dot, _ = name.rpartition(".")
    return Expanded(_tree(tree, {stem if dot and stem else name: PartSource(inside.window)}), inside.findings)


# --- both ---


def _tree(outer: Tree, sources: Mapping[str, Source]) -> Tree:
    # What is read inside is bounded by what is left outside: nesting does not multiply it.
    inner = Tree(sources, limit=max(0, outer.budget.limit - outer.budget.used))
    inner.remember(_ALLOWANCE, lambda: _allowance(outer))
    return inner


def _allowance(tree: Tree) -> Budget:
    """What may come out of bombs, for a tree and all archives inside it together."""
    return tree.remember(_ALLOWANCE, lambda: Budget(FREE))


def _link(path: str, name: str, target: str, offset: int, *, hard: bool = False) -> Iterable[Finding]:
    """A link that points outside is a way to read and write there; one that stays inside is worth a note."""
    kind = "hard link" if hard else "symbolic link"
    reached = normpath(target if hard else f"{dirname(name)}/{target}".lstrip("/"))
    if target.startswith(("/", "\\")) or target[1:2] == ":" or reached.startswith(("../", "/")) or reached == "..":
        message = f"member {name!r:.120} is a {kind} that points outside the archive"
        yield Finding("archive-link-outside", Severity.READ, message, path, offset, ascii(target)[1:-1][:200], _OUTSIDE)
    else:
        message = f"member {name!r:.120} is a {kind} to another one"
        yield Finding("archive-link", Severity.NOTE, message, path, offset, ascii(target)[1:-1][:200])


def _special(path: str, name: str, kind: str, offset: int) -> Finding:
    message = f"member {name!r:.120} is a {kind}, no file"
    return Finding("archive-special", Severity.READ, message, path, offset, effect="open a device of the machine")


def _privileged(path: str, name: str, offset: int) -> Finding:
    message = f"member {name!r:.120} would run with the rights of its owner (set-user-id)"
    return Finding("archive-set-id", Severity.MISLEAD, message, path, offset)


def _bomb(path: str, size: int, packed: int) -> Iterable[Finding]:
    if size > FREE and size > MAX_RATIO * packed:
        message = f"the members state {size:,} bytes, {size // max(1, packed):,} times those of the archive"
        yield Finding("archive-bomb", Severity.EXHAUST, message, path, 0, effect="fill memory or disk")
    elif size > MAX_INFLATED and size > 4 * packed:
        message = f"the members state {size:,} bytes, at most {MAX_INFLATED:,} are inflated"
        yield Finding("archive-large", Severity.INCOMPLETE, message, path, 0)


def _few(findings: Iterable[Finding], most: int = 20) -> list[Finding]:
    said: Counter[str] = Counter()
    kept = []
    for finding in findings:
        said[finding.rule] += 1
        if said[finding.rule] <= most:
            kept.append(finding)
    return kept
