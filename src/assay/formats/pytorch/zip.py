"""The zip layout of ``torch.save`` (torch 1.6 and later): one pickle, one member per storage.

Source: ``torch.serialization._save``/``_load`` and ``caffe2/serialize/inline_container.cc``: members are stored, not
compressed, and aligned to 64 bytes; ``byteorder`` (torch 2.1 and later) says the byte order of
the elements, little when absent.
"""

from __future__ import annotations

from dataclasses import replace

from assay.audit.pickles import judge
from assay.containers.archive import Archive
from assay.containers.pickle import parse as pickles
from assay.errors import BadFormat
from assay.formats.pytorch.archives import Kind, archive_kind
from assay.formats.pytorch.saved import Record, Saved
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json

MAX_INFLATED = 1 << 28
"""Bytes of a compressed member that are inflated."""

_MAX_NOTE = 256
# Bytes of the small text members (version, byteorder) that are read.


class ArchiveRecords:
    """Storages that are members of a zip archive.

    Args:
        archive: the zip.
        folder: where its storages lie, with a trailing slash.
        suffix: what their names end with, after the key.
        plain: whether the archive itself lies plainly in its entry (it may be inside another one, deflated).
    """

    def __init__(self, archive: Archive, folder: str, *, suffix: str = "", plain: bool = True) -> None:
        self._suffix = suffix
        self._archive = archive
        self._folder = folder
        self._plain = plain

    def find(self, key: str) -> Record | None:
        """Where the bytes of a storage lie, or None when there is no such member."""
        name = self._folder + key + self._suffix
        if name not in self._archive:
            return None
        member = self._archive.member(name)
        if not member.stored or not self._plain:
            return Record(member.size, None)
        start = self._archive.window.start + member.offset
        there = max(0, self._archive.window.size - member.offset)
        return Record(min(member.size, there), start)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of a storage, inflated if need be.

        Raises:
            BadFormat: there are not that many.
        """
        return self._archive.open(self._folder + key + self._suffix, MAX_INFLATED).exactly(offset, length)


def read_zip(
    archive: Archive,
    prefix: str,
    *,
    pickle: str = "data.pkl",
    storages: str = "data/",
    suffix: str = "",
    plain: bool = True,
    script: bool = False,
) -> Saved:
    """Read one pickle of an archive and find its storages.

    Args:
        archive: the zip.
        prefix: the folder all members lie in, with a trailing slash.
        pickle: the member that holds the object.
        storages: the folder, below the prefix, that holds its storages.
        suffix: what the names of its storages end with, after the key.
        plain: whether the archive itself lies plainly in its entry.
        script: whether it is a TorchScript program, whose pickles name its own classes.

    Raises:
        BadFormat: the pickle is not there or not readable at all.
    """
    path = archive.window.path
    version = note(archive, f"{prefix}version") or note(archive, f"{prefix}.data/version")
    order = note(archive, f"{prefix}byteorder")
    window = archive.open(f"{prefix}{pickle}", MAX_INFLATED)
    parsed = pickles.parse(window)
    findings = [*archive.findings, *judge([parsed], window, torch=True, script=script)]
    if parsed.complete and parsed.end < window.size:
        left = window.size - parsed.end
        message = f"{left:,} bytes follow the pickle {prefix}{pickle}, which torch does not read"
        seen = window.read(parsed.end, 16).hex(" ")
        findings.append(Finding("pytorch-trailing-bytes", Severity.MISLEAD, message, path, None, seen))
    if order not in (None, "little", "big"):
        findings.append(
            Finding(
                "pytorch-byteorder",
                Severity.MISLEAD,
                f"byte order is stated as {order[:40]!r}, expected little or big; little is assumed",
                path,
            )
        )
    if version is None:
        findings.append(
            Finding("pytorch-no-version", Severity.MISLEAD, "the archive has no version record; torch refuses it", path)
        )
    return Saved(
        path=path,
        version=f"zip {version}" if version else "zip",
        value=parsed.value,
        globals=tuple(use.global_ for use in parsed.globals),
        records=ArchiveRecords(archive, prefix + storages, suffix=suffix, plain=plain),
        big_endian=order == "big",
        facts=_facts(archive, prefix, order),
        findings=(*findings, *parsed.findings),
    )


def read_inner(archive: Archive, member: str, *kinds: Kind) -> Saved:
    """Read a torch archive that is a member of another archive.

    Raises:
        BadFormat: the member is not there, not readable, or not of one of *kinds*.
    """
    inner = Archive(archive.open(member, MAX_INFLATED))
    kind = archive_kind(inner)
    if kind is None or kind[0] not in kinds:
        wanted = " or ".join(kind.value for kind in kinds)
        raise BadFormat(f"member {member[-100:]!r} is not an archive of {wanted}", path=archive.window.path)
    saved = read_zip(inner, kind[1], plain=archive.member(member).stored)
    return replace(saved, path=archive.window.path)


def note(archive: Archive, name: str) -> str | None:
    """A small text member, stripped; None when it is not there or not small."""
    if name not in archive or archive.member(name).size > _MAX_NOTE:
        return None
    try:
        return archive.read(name, _MAX_NOTE).decode("utf-8", "replace").strip()
    except BadFormat:
        return None


def _facts(archive: Archive, prefix: str, order: str | None) -> dict[str, Json]:
    facts: dict[str, Json] = {"archive_folder": prefix.rstrip("/")[:200]}
    for key, name in (
        ("serialization_id", ".data/serialization_id"),
        ("storage_alignment", ".storage_alignment"),
        ("storage_format_version", ".format_version"),
    ):
        text = note(archive, prefix + name)
        if text:
            facts[key] = text[:100]
    if order:
        facts["byteorder"] = order[:40]
    return facts
