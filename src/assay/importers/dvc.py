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
from functools import partial
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

import yaml

from assay.errors import AssayError, BadFormat, NotFound
from assay.importers.dvc_cache import Cache, Tracked, open_cache
from assay.importers.git import Git, materialised
from assay.importers.gto import Release, releases
from assay.ports.importers import Checksum, Files, Offered, Unreadable
from assay.spec.json import Json
from assay.spec.paths import check_path, check_together


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
        """Per model, every version that a GTO tag names; the commit that is checked out where no tag names one.

        Raises:
            NotFound: it is no DVC repository, or declares no models (code ``import-source-missing``).
        """
        git = Git(self._folder)
        git.check()
        cache = open_cache(self._folder)
        tagged = releases(git)
        head = git.text("rev-parse", "HEAD").strip()
        names = sorted({*tagged, *(found.name for found in _models(git, head))})
        if not names:
            raise NotFound(
                f"no models are declared in {self._folder}",
                code="import-source-missing",
                hint="declare them under artifacts: in dvc.yaml, or import the folder itself: --from folder",
            )
        for name in names:
            untagged = (Release(head[:12], head, (), None),)
            for release in tagged.get(name) or untagged:
                try:
                    yield _offer(git, cache, name, release)
                except AssayError as error:
                    yield Unreadable(name, release.version, error)


def _offer(git: Git, cache: Cache, name: str, release: Release) -> Offered:
    declared = next((found for found in _models(git, release.commit) if found.name == name), None)
    if declared is None:
        raise NotFound(
            f"commit {release.commit[:12]}, which the tag names, declares no model {name!r}", code="location-missing"
        )
    author, date = git.text("log", "-1", "--format=%an%x00%aI", release.commit).strip().split("\0")
    return Offered(
        model=name.replace(":", "/"),
        label=release.version,
        created=release.made or date,
        actor=release.actor or author,
        params=_flat(_documents(git, release.commit, ["params.yaml"])),
        metrics=_numbers(_flat(_documents(git, release.commit, _metric_files(git, release.commit)))),
        run=f"git://{release.commit}",
        run_details={"git_commit": release.commit},
        note=declared.note,
        tags=declared.tags,
        aliases=release.stages,
        where=f"{declared.path} at {release.commit[:12]}",
        open=partial(_open, git, cache, release.commit, declared.path),
    )


def _models(git: Git, commit: str) -> list[Declared]:
    """Every artifact that a ``dvc.yaml`` of a commit declares."""
    found = []
    for path in git.entries(commit):
        if PurePosixPath(path).name not in {"dvc.yaml", "artifacts.yaml"}:
            continue
        folder = PurePosixPath(path).parent
        body = _yaml(git, commit, path)
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
def _open(git: Git, cache: Cache, commit: str, path: str) -> Iterator[Files]:
    """The files of a model at a commit: out of DVC's cache, or out of git where DVC does not track it."""
    tracked = _tracked(git, commit, path)
    if tracked is None:
        entries = git.entries(commit)
        if path in entries:
            parent = "" if "/" not in path else path.rpartition("/")[0] + "/"
            with materialised(git, [entries[path]], under=parent) as files:
                yield files
            return
        inside = [entry for name, entry in entries.items() if name.startswith(f"{path}/")]
        if not inside:
            raise NotFound(f"{path} is neither tracked by DVC nor in git at {commit[:12]}", code="location-missing")
        with materialised(git, inside, under=f"{path}/") as files:
            yield files
        return
    members = cache.members(tracked)
    paths = {check_path(name): cache.find(found, name) for name, found in members.items()}
    check_together(paths)
    checksums = {name: Checksum("md5", found.md5) for name, found in members.items() if found.exact}
    yield Files(dict(sorted(paths.items())), checksums)


def _tracked(git: Git, commit: str, path: str) -> Tracked | None:
    """What DVC says of a path: in a ``.dvc`` file beside it or in a ``dvc.lock``, itself or a folder above it."""
    for name in git.entries(commit):
        file = PurePosixPath(name)
        if file.suffix != ".dvc" and file.name != "dvc.lock":
            continue
        for out, facts in _outs(_yaml(git, commit, name)):
            place = normpath(file.parent / out)
            if path != place and not path.startswith(f"{place}/"):
                continue
            if not isinstance(facts.get("md5"), str):
                raise NotFound(
                    f"{place} has no md5 in {name}: it lies elsewhere or was never run", code="location-missing"
                )
            exact = facts.get("hash") == "md5"  # DVC 2 turned line ends of text files before it hashed them
            return Tracked(PurePosixPath(place).name, facts["md5"], exact, path.removeprefix(place).strip("/"))
    return None


def _outs(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    stages = body.get("stages", {})
    lists = [body.get("outs"), *(stage.get("outs") for stage in _values(stages) if isinstance(stage, Mapping))]
    for outs in lists:
        for facts in outs if isinstance(outs, list) else ():
            if isinstance(facts, Mapping) and isinstance(facts.get("path"), str):
                yield facts["path"], facts


def _metric_files(git: Git, commit: str) -> list[str]:
    """Metrics files of the top ``dvc.yaml``: those named beside the stages, and those of the stages."""
    body = _yaml(git, commit, "dvc.yaml")
    stages = [stage for stage in _values(body.get("stages", {})) if isinstance(stage, Mapping)]
    found: list[str] = []
    for listed in (body.get("metrics"), *(stage.get("metrics") for stage in stages)):
        for item in listed if isinstance(listed, list) else ():
            found += [str(key) for key in item] if isinstance(item, Mapping) else [str(item)]
    return list(dict.fromkeys(found))


def _documents(git: Git, commit: str, paths: list[str]) -> dict[str, Json]:
    merged: dict[str, Json] = {}
    for path in paths:
        merged |= _yaml(git, commit, path)
    return merged


def _yaml(git: Git, commit: str, path: str) -> dict[str, Any]:
    """A YAML or JSON mapping of a commit; empty when it is not there.

    Raises:
        BadFormat: it is there and is none.
    """
    data = git.read(commit, path)
    if data is None:
        return {}
    try:
        body = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadFormat(f"{path} of commit {commit[:12]} is no YAML: {str(error).splitlines()[0]}") from error
    return body if isinstance(body, dict) else {}


def _values(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else []


def _flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Json]:
    """Nested values under dotted names, as DVC shows them."""
    found: dict[str, Json] = {}
    for key, value in body.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, (bool, int, float, str)):
            found[f"{prefix}{key}"] = value
        else:
            found[f"{prefix}{key}"] = json.loads(json.dumps(value, default=str))
    return found


def _numbers(values: Mapping[str, Json]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
