"""GTO's tags: versions of models and the stages they are in.

    NAME@v1.2.3        registers a version                NAME@v1.2.3!        takes it back
    NAME#STAGE#N       assigns the version of that commit NAME#STAGE!#N       takes it back
    NAME@deprecated    takes all versions back

A counter may follow any of them (``#N``), and is missing in simple tags. In a name, ``=`` stands before the part that
follows a ``:`` in ``dvc.yaml``'s own notation (``vision=clf``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC

from assay.importers.git_plumbing import Git, GitRef

_VERSION = re.compile(
    r"(?P<name>[^@#]+)@(?P<version>v\d{1,9}\.\d{1,9}\.\d{1,9}(?:[-+][0-9A-Za-z.+-]{1,100})?)(?P<undo>!)?(?:#\d+)?",
    re.ASCII,
)
_DEPRECATED = re.compile(r"(?P<name>[^@#]+)@deprecated(?:#\d+)?", re.ASCII)
_STAGE = re.compile(r"(?P<name>[^@#]+)#(?P<stage>[A-Za-z0-9_-]+)(?P<undo>!)?(?:#\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a model.

    Args:
        version: ``v1.2.3``, or a commit where none is registered.
        commit: where it is.
        stages: the stages it is in now.
        made: when it was registered, RFC 3339.
        actor: who registered it.
    """

    version: str
    commit: str
    stages: tuple[str, ...]
    made: str | None
    actor: str | None = None


def releases(git: Git) -> dict[str, list[Release]]:
    """Model to its versions, in the order of their numbers; to none where all were taken back."""
    registered: dict[str, dict[str, Release]] = {}
    staged: dict[str, dict[str, GitRef]] = {}
    for ref in git.refs("tags"):  # oldest first: what comes later takes back what came before
        if found := _VERSION.fullmatch(ref.name):
            versions = registered.setdefault(_name(found), {})
            if found["undo"]:
                versions.pop(found["version"], None)
            else:
                made = ref.made.astimezone(UTC).isoformat().replace("+00:00", "Z")
                versions[found["version"]] = Release(found["version"], ref.commit, (), made, ref.tagger or None)
        elif found := _DEPRECATED.fullmatch(ref.name):
            registered[_name(found)] = {}
        elif found := _STAGE.fullmatch(ref.name):
            stages = staged.setdefault(_name(found), {})
            if found["undo"]:
                stages.pop(found["stage"], None)
            else:
                stages[found["stage"]] = ref
    return {
        name: [_with_stages(versions, version, staged.get(name, {})) for version in sorted(versions, key=_order)]
        for name, versions in registered.items()
    }


def _name(found: re.Match[str]) -> str:
    return found["name"].replace("=", ":")


def _with_stages(versions: dict[str, Release], version: str, stages: dict[str, GitRef]) -> Release:
    """A version with the stages whose tag lies on its commit; the newest version of a commit is the one that counts."""
    release = versions[version]
    newest = max((other for other in versions if versions[other].commit == release.commit), key=_order)
    held = [stage for stage, ref in stages.items() if ref.commit == release.commit and version == newest]
    return replace(release, stages=tuple(sorted(held)))


def _order(version: str) -> tuple[list[int], bool, list[tuple[bool, int, str]]]:
    """What versions are sorted by: semver.org's item 11, where a pre-release comes before its release."""
    core, _, pre = version.removeprefix("v").partition("+")[0].partition("-")
    parts = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in pre.split(".")]
    return [int(part) if part.isdigit() else 0 for part in core.split(".")], not pre, parts
