"""Reading a DVC repository: the models that its ``dvc.yaml`` files declare, at the versions that GTO tags name.

Sources: DVC's reference pages "dvc.yaml", ".dvc files", "Internal directories" (cache layouts of DVC 1 to 3), and GTO's
page "Git tags format". Bytes come from the local cache or from remotes that are folders; nothing is downloaded. DVC and
GTO need not be installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from assay.errors import AssayError, NotFound
from assay.importers.documents import MAX_BYTES, flat, mapping, numbers_of
from assay.importers.dvc_cache import Cache, Tracked, open_cache
from assay.importers.git import materialised
from assay.importers.git_plumbing import Git
from assay.importers.gto import Release, releases
from assay.ports.importers import Checksum, Files, Offered, Unreadable
from assay.spec.paths import check_path, check_together

_KEPT_COMMITS = 8
"""Commits whose documents are kept: several models are often tagged at one."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A model as a ``dvc.yaml`` of one commit declares it.

    Args:
        name: its name there, with the folder of the file before it (``vision:clf``) unless that is the top.
        path: where it lies in the repository.
        note: description.
        tags: type, labels and free values.
    """

    name: str
    path: str
    note: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class Commit:
    """What one commit holds; each document is read once.

    Args:
        git: the repository.
        id: the commit.
    """

    def __init__(self, git: Git, id: str) -> None:  # noqa: A002
        self.git = git
        self.id = id
        self.entries = git.entries(id)
        self._read: dict[str, dict[str, Any]] = {}

    def document(self, path: str) -> dict[str, Any]:
        """A YAML or JSON mapping; empty when it is not there.

        Raises:
            BadFormat: it is there and is none.
        """
        if path not in self._read:
            entry = self.entries.get(path)
            data = self.git.read(entry, MAX_BYTES) if entry else b""
            self._read[path] = mapping(data, f"{path} of commit {self.id[:12]}")
        return self._read[path]

    def named(self, *names: str) -> Iterator[str]:
        """Paths of documents of some names, in any folder."""
        return (path for path in self.entries if PurePosixPath(path).name in names)


class DvcRepository:
    """A git repository in which DVC tracks models.

    Args:
        folder: its top.
    """

    system = "dvc"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def offered(self) -> Iterator[Offered | Unreadable]:
        """Per model, every version that a GTO tag names; the commit that is checked out where no tag ever named one.

        Raises:
            NotFound: it is no DVC repository, or declares no models (code ``import-source-missing``).
        """
        git = Git(self._folder)
        git.check()
        cache = open_cache(self._folder)
        tagged = releases(git)
        head = git.head()
        commit = lru_cache(maxsize=_KEPT_COMMITS)(partial(Commit, git))
        names = sorted({*tagged, *(found.name for found in (_models(commit(head)) if head else ()))})
        if not names:
            raise NotFound(
                f"no models are declared in {self._folder}",
                code="import-source-missing",
                hint="declare them under artifacts: in dvc.yaml, or import the folder itself: --from folder",
            )
        for name in names:
            untagged = [Release(head[:12], head, (), None)] if head else []
            for release in tagged.get(name, untagged):
                try:
                    yield _offer(commit(release.commit), cache, name, release)
                except AssayError as error:
                    yield Unreadable(name.replace(":", "/"), release.version, error)


def _offer(commit: Commit, cache: Cache, name: str, release: Release) -> Offered:
    declared = next((found for found in _models(commit) if found.name == name), None)
    if declared is None:
        raise NotFound(
            f"commit {commit.id[:12]}, which the tag names, declares no model {name!r}",
            code="location-missing",
            hint="declare it under artifacts: in dvc.yaml before tagging, or push its files: assay push",
        )
    (said,) = commit.git.commits([commit.id])
    return Offered(
        model=name.replace(":", "/"),
        label=release.version,
        created=release.made or said.date,
        actor=release.actor or said.author,
        params=flat(commit.document("params.yaml")),
        metrics=_metrics(commit),
        run=f"git://{commit.id}",
        run_details={"git_commit": commit.id},
        note=declared.note,
        tags=declared.tags,
        aliases=release.stages,
        where=f"{declared.path} at {commit.id[:12]}",
        open=partial(_open, commit, cache, declared.path),
    )


def _models(commit: Commit) -> list[Declared]:
    """Every artifact that a ``dvc.yaml``, or GTO's older ``artifacts.yaml``, declares."""
    found = []
    for path in commit.named("dvc.yaml", "artifacts.yaml"):
        folder = PurePosixPath(path).parent
        body = commit.document(path)
        declared = body.get("artifacts", {}) if path.endswith("dvc.yaml") else body
        for name, facts in declared.items() if isinstance(declared, Mapping) else ():
            if isinstance(facts, Mapping) and facts.get("path"):
                full = str(name) if str(folder) == "." else f"{folder}:{name}"
                found.append(Declared(full, normpath(folder / str(facts["path"])), _note(facts), _tags(facts)))
    return found


def _note(facts: Mapping[str, Any]) -> str | None:
    return str(facts["desc"]) if facts.get("desc") else None


def _tags(facts: Mapping[str, Any]) -> dict[str, str]:
    tags = {"type": str(facts["type"])} if facts.get("type") else {}
    if isinstance(labels := facts.get("labels"), list) and labels:
        tags["labels"] = ", ".join(map(str, labels))
    if isinstance(meta := facts.get("meta"), Mapping):
        tags |= {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
    return tags


@contextmanager
def _open(commit: Commit, cache: Cache, path: str) -> Iterator[Files]:
    """The files of a model at a commit: out of DVC's cache, or out of git where DVC does not track it."""
    tracked = _tracked(commit, path)
    if tracked is None:
        entries = commit.entries
        if path in entries:
            chosen, under = [entries[path]], "" if "/" not in path else path.rpartition("/")[0] + "/"
        else:
            chosen, under = [entry for name, entry in entries.items() if name.startswith(f"{path}/")], f"{path}/"
        if not chosen:
            raise NotFound(
                f"{path} is neither tracked by DVC nor in git at {commit.id[:12]}",
                code="location-missing",
                hint="dvc status says what was not committed; values in ${…} are not filled in",
            )
        with materialised(commit.git, chosen, under=under) as files:
            yield files
        return
    members = cache.members(tracked)
    paths = {check_path(name): cache.find(found, name) for name, found in members.items()}
    check_together(paths)
    checksums = {name: Checksum("md5", found.md5) for name, found in members.items() if found.exact}
    yield Files(dict(sorted(paths.items())), checksums)


def _tracked(commit: Commit, path: str) -> Tracked | None:
    """What DVC says of a path: in a ``.dvc`` file beside it or in a ``dvc.lock``, itself or a folder above it."""
    for name in commit.entries:
        if not name.endswith((".dvc", "dvc.lock")):
            continue
        for place, facts in _outs(commit, name):
            if path != place and not path.startswith(f"{place}/"):
                continue
            md5 = facts.get("md5")
            if not isinstance(md5, str):
                raise NotFound(
                    f"{place} has no md5 in {name}: it lies in a bucket, or was never run",
                    code="location-missing",
                    hint="dvc repro, or dvc pull with a remote that is not version-aware; then commit",
                )
            exact = facts.get("hash") == "md5"  # DVC 2 turned line ends of text files before it hashed them
            return Tracked(PurePosixPath(place).name, md5, exact, path.removeprefix(place).strip("/"))
    return None


def _outs(commit: Commit, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a ``.dvc`` or ``dvc.lock`` file tracks, by its path in the repository."""
    body = commit.document(name)
    folder = PurePosixPath(name).parent
    listed: list[tuple[PurePosixPath, object]] = []
    if name.endswith(".dvc"):
        listed.append((folder / _text(body, "wdir"), body.get("outs")))
    else:
        declared = _stages(commit.document(str(folder / "dvc.yaml")))
        # The first form of the file (DVC 1) has the stages at the top.
        for stage, facts in (_stages(body) if "schema" in body or "stages" in body else _mappings(body)).items():
            # A stage that is repeated is called NAME@ITEM here; paths are counted from its working folder.
            made = declared.get(stage.partition("@")[0], {})
            listed.append((folder / _text(made, "wdir"), facts.get("outs")))
    for where, outs in listed:
        for facts in outs if isinstance(outs, list) else ():
            if isinstance(facts, Mapping) and isinstance(facts.get("path"), str):
                yield normpath(where / facts["path"]), facts


def _metrics(commit: Commit) -> dict[str, float]:
    """Numbers in the metrics files of the top ``dvc.yaml``: those named beside the stages, and those of the stages."""
    body = commit.document("dvc.yaml")
    lists = [("", body.get("metrics"))]
    lists += [(_text(stage, "wdir"), stage.get("metrics")) for stage in _stages(body).values()]
    paths: list[str] = []
    for where, listed in lists:
        for item in listed if isinstance(listed, list) else ():
            named = map(str, item) if isinstance(item, Mapping) else [str(item)]
            paths += [normpath(PurePosixPath(where) / name) for name in named]
    found: dict[str, float] = {}
    for path in dict.fromkeys(paths):
        if path.endswith((".json", ".yaml", ".yml")):
            found |= numbers_of(flat(commit.document(path)))
    return found


def _stages(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return _mappings(body.get("stages"))


def _mappings(value: object) -> dict[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): item for key, item in value.items() if isinstance(item, Mapping)}


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    return value if isinstance(value, str) else ""
