"""The ``pytorch`` format: what ``torch.save`` writes, in both layouts, alone or in Hugging Face shards.

Not here: TorchScript (``script``), ``torch.export`` (``export``), the byte layouts (``zip``,
``legacy``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename

from assay.containers.archive import open_archive
from assay.containers.documents import read_json
from assay.containers.guard import guarded
from assay.errors import BadFormat
from assay.formats.pytorch.archives import Kind, archive_kind, find_archives
from assay.formats.pytorch.checkpoints import Story, read_story
from assay.formats.pytorch.graph import needed_distributions
from assay.formats.pytorch.index import Index, build_index
from assay.formats.pytorch.legacy import is_legacy, read_legacy
from assay.formats.pytorch.members import storage_keys, unread_members
from assay.formats.pytorch.saved import Saved, sought_elements
from assay.formats.pytorch.state import MAX_CONTAINERS, Found, find_tensors
from assay.formats.pytorch.values import TensorValue, shorten
from assay.formats.pytorch.zip import read_zip
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

INDEX_SUFFIX = ".bin.index.json"
"""How Hugging Face names the index of sharded torch weights (``pytorch_model.bin.index.json``)."""

MAX_IN_BOMB = 20_000
"""Containers looked into once the pickle is known to unfold without bounds."""
MAX_INDEX = 32 << 20
"""Bytes of a shard index that are read."""

_TAR_MAGIC = b"ustar"


class PyTorchFormat:
    """Files of ``torch.save``: state dicts, checkpoints, whole modules, and plain objects without tensors."""

    name = "pytorch"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per file; the shards that one index names form one group behind it."""
        files = [path for path in tree.paths if is_legacy(tree.head(path)) or _is_tar(tree.head(path))]
        files = sorted({*files, *find_archives(tree, Kind.PICKLE)})
        groups: list[tuple[str, ...]] = []
        taken: set[str] = set()
        for index in (path for path in tree.paths if path.endswith(INDEX_SUFFIX)):
            shards = [path for path in _shard_paths(tree, index) if path in files and path not in taken]
            if shards:
                groups.append((shards[0], index, *shards[1:]))
                taken.update(shards)
        groups.extend((path,) for path in files if path not in taken)
        return sorted(groups)

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Everything the files of one group say; see the port.

        Raises:
            BadFormat: no file of the group is readable.
        """
        indexes = [path for path in paths if path.endswith(INDEX_SUFFIX)]
        shards = [path for path in paths if path not in indexes]
        with guarded("a torch file", shards[0] if shards else ""):
            parts, findings = _read_all(tree, shards)
            built = build_index(parts)
            stories = [read_story(saved, found) for saved, found in parts]
            facts: dict[str, Json] = {}
            for index in indexes:
                findings += _check_index(tree, index, built, facts)
            return _assemble(paths, parts, stories, built, findings, facts)

    def tensor(self, tree: Tree, spec: TensorSpec) -> bytes:
        """The elements of one tensor in C order, little-endian; compressed storages are inflated.

        Raises:
            BadFormat: the bytes are not there or do not decode.
            NotFound: no file of the tree holds such a tensor.
        """

        def tensors(path: str) -> Iterator[tuple[str, Saved, TensorValue]]:
            saved = read_saved(tree, path)
            return ((located.name, saved, located.tensor) for located in find_tensors(saved.value).tensors)

        paths = (path for group in self.detect(tree) for path in group if not path.endswith(INDEX_SUFFIX))
        return sought_elements(spec, paths, "a torch file", tensors)


def read_saved(tree: Tree, path: str) -> Saved:
    """Read one file of ``torch.save`` in either layout.

    Raises:
        BadFormat: it is neither, or damaged.
    """
    head = tree.head(path)
    if is_legacy(head):
        return read_legacy(tree.open(path))
    if _is_tar(head):
        raise BadFormat(
            f"{path}: the tar layout of torch before 0.1.10 is recognised but not read",
            path=path,
            hint="load it with torch.load(weights_only=False) where you trust it, and save it again",
        )
    archive = open_archive(tree, path)
    kind = archive_kind(archive)
    if kind is None or kind[0] is not Kind.PICKLE:
        raise BadFormat(f"{path}: not an archive of torch.save", path=path)
    return read_zip(archive, kind[1])


def _unread(tree: Tree, path: str, saved: Saved) -> list[Finding]:
    """What lies in a file beside what was read."""
    if is_legacy(tree.head(path)):
        return []
    archive = open_archive(tree, path)
    prefix = (archive_kind(archive) or ("", ""))[1]
    read = {f"{prefix}data.pkl", *(f"{prefix}data/{key}" for key in storage_keys(saved.value))}
    return unread_members(archive, prefix, read.__contains__, plain=True)


def _read_all(tree: Tree, shards: Sequence[str]) -> tuple[list[tuple[Saved, Found]], list[Finding]]:
    parts: list[tuple[Saved, Found]] = []
    findings: list[Finding] = []
    for path in shards:
        try:
            saved = read_saved(tree, path)
        except BadFormat as error:
            if len(shards) == 1 and not _is_tar(tree.head(path)):
                raise
            findings.append(Finding("pytorch-unreadable", Severity.INCOMPLETE, error.message, path))
            continue
        bomb = any(finding.rule == "pickle-bomb" for finding in saved.findings)
        parts.append((saved, find_tensors(saved.value, most=MAX_IN_BOMB if bomb else MAX_CONTAINERS)))
        findings.extend(saved.findings)
        findings.extend(_unread(tree, path, saved))
    return parts, findings


def _assemble(
    paths: tuple[str, ...],
    parts: Sequence[tuple[Saved, Found]],
    stories: Sequence[Story],
    built: Index,
    findings: list[Finding],
    facts: Mapping[str, Json],
) -> Description:
    story = stories[0] if stories else Story()
    names = [name for saved, _ in parts for name in saved.globals]
    local = sorted({shorten(str(name)) for name in names if name.module.split(".")[0] == "__main__"})
    if local:
        findings.append(
            Finding(
                "pytorch-local-class",
                Severity.NOTE,
                "it needs classes of the script that saved it, which no package provides",
                paths[0],
                None,
                ", ".join(local)[:200],
            )
        )
    needed = needed_distributions(names)
    pinned = {text.partition("==")[0] for text in story.requirements}
    return Description(
        format=PyTorchFormat.name,
        paths=tuple(sorted(paths)),
        format_version=parts[0][0].version if parts else "tar",
        framework="pytorch",
        architecture=story.architecture,
        tensors=tuple(built.specs),
        parameter_count=built.trained if built.specs else None,
        hyperparameters=story.hyperparameters,
        metrics=story.metrics,
        components=story.components,
        requirements=(*(name for name in needed if name not in pinned), *story.requirements),
        metadata={"kind": story.kind, **(parts[0][0].facts if parts else {}), **built.facts, **facts, **story.metadata},
        findings=(*findings, *built.findings),
        globals=tuple(dict.fromkeys(map(str, names))),
    )


def _is_tar(head: bytes) -> bool:
    # torch.save before 0.1.10 wrote a tar of "sys_info", "pickle", "tensors" and "storages".
    return head[257:262] == _TAR_MAGIC and head.split(b"\0", 1)[0] in (b"sys_info", b"pickle", b"storages", b"tensors")


def _weight_map(tree: Tree, index: str) -> Mapping[str, Json]:
    value = read_json(tree.open(index), MAX_INDEX).value
    weights = value.get("weight_map") if isinstance(value, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def _shard_paths(tree: Tree, index: str) -> list[str]:
    try:
        names = {name for name in _weight_map(tree, index).values() if isinstance(name, str)}
    except BadFormat:
        return []
    return sorted(tree.sibling(index, name) for name in names if _stays_here(name))


def _stays_here(name: str) -> bool:
    return bool(name) and basename(name) == name and "\\" not in name and name not in (".", "..")


def _check_index(tree: Tree, index: str, built: Index, facts: dict[str, Json]) -> list[Finding]:
    try:
        weights = _weight_map(tree, index)
    except BadFormat as error:
        return [Finding("pytorch-index", Severity.INCOMPLETE, error.message, index)]
    findings: list[Finding] = []
    names = sorted({name for name in weights.values() if isinstance(name, str)})
    facts["shards"] = len(names)
    for name in names[:1000]:
        if not _stays_here(name):
            message = "the shard index points outside of its folder"
            findings.append(Finding("pytorch-index-escape", Severity.READ, message, index, None, name[:200]))
        elif tree.sibling(index, name) not in tree:
            message = f"shard {name[:100]!r} is not there"
            findings.append(Finding("pytorch-missing-shard", Severity.INCOMPLETE, message, index))
    held = {spec.name for spec in built.specs}
    absent = [name for name in weights if name not in held]
    if absent:
        message = f"{len(absent):,} tensors of the index are in no shard that was read"
        findings.append(Finding("pytorch-index-mismatch", Severity.MISLEAD, message, index, None, str(absent[0])[:200]))
    extra = held - set(weights)
    if extra:
        message = f"{len(extra):,} tensors of the shards are not in the index"
        findings.append(Finding("pytorch-index-mismatch", Severity.MISLEAD, message, index, None, min(extra)[:200]))
    return findings
