"""Which installed distributions a live model needs: its classes, their modules and distributions, what those require.

The model's objects are followed through attributes and containers, within bounds; the top-level packages of their
classes (and of their class's bases) are what must be importable to load it. Standard library modules need nothing;
modules that belong to no distribution are local code and are named only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from types import ModuleType

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

MAX_OBJECTS = 50_000
"""Objects of a model that are looked at."""
MAX_SIBLINGS = 200
"""Members of one container that are looked at: a list of a million weights has one class."""
MAX_DISTRIBUTIONS = 500

_PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))


def needed_packages(model: object, modules: Iterable[str] = ()) -> tuple[str, ...]:
    """Top-level packages that loading *model* needs, sorted, standard library left out.

    Args:
        model: a live object.
        modules: packages known to be needed besides.
    """
    found = {name.partition(".")[0] for name in modules}
    for value in reachable(model):
        kind = value if isinstance(value, type) else type(value)
        owner = getattr(value, "__module__", None) if callable(value) and hasattr(value, "__name__") else None
        found.update(str(base.__module__).partition(".")[0] for base in kind.__mro__)
        if isinstance(owner, str):
            found.add(owner.partition(".")[0])
    return tuple(sorted(name for name in found if name and name not in sys.stdlib_module_names))


def reachable(model: object) -> Iterator[object]:
    """Objects reachable from *model* through attributes, slots and containers, each once, nearest first."""
    seen: set[int] = set()
    level: list[object] = [model]
    while level and len(seen) < MAX_OBJECTS:
        following: list[object] = []
        for value in level:
            if id(value) in seen or isinstance(value, (*_PLAIN, ModuleType)):
                continue
            seen.add(id(value))
            yield value
            following.extend(_members(value))
        level = following


def _members(value: object) -> list[object]:
    if isinstance(value, type):
        return []
    if isinstance(value, Mapping):
        try:
            return list(value.values())[:MAX_SIBLINGS]
        except Exception:  # noqa: BLE001 - a live object's own code; what it does not show is not followed
            return []
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)[:MAX_SIBLINGS]
    attributes = getattr(value, "__dict__", None)
    return list(attributes.values())[:MAX_SIBLINGS] if isinstance(attributes, dict) else []


def distributions_of(packages: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Distribution name to version for *packages* and all that they require here, and packages that have none.

    Requirements are followed where their markers hold on this machine; extras are followed only where asked for.
    """
    owners = packages_distributions()
    local = sorted(name for name in packages if name not in owners)
    waiting: list[tuple[str, frozenset[str]]] = [
        (owner, frozenset()) for name in packages for owner in dict.fromkeys(owners.get(name, ()))
    ]
    found: dict[str, str] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting and len(found) < MAX_DISTRIBUTIONS:
        name, extras = waiting.pop()
        key = (canonicalize_name(name), extras)
        if key in done:
            continue
        done.add(key)
        try:
            dist = distribution(name)
        except (PackageNotFoundError, ValueError):
            continue
        found[canonicalize_name(dist.metadata["Name"] or name)] = dist.version
        waiting.extend(_required(dist, extras))
    return dict(sorted(found.items())), tuple(local)


def imported_for(requirements: Iterable[str]) -> tuple[str, ...]:
    """Top-level packages that this process has imported and that belong to one of *requirements* (PEP 508), sorted.

    What the files of a model need and this process uses is what tells that the process made or used the model.
    """
    wanted = set()
    for text in requirements:
        try:
            wanted.add(canonicalize_name(Requirement(text).name))
        except InvalidRequirement:
            continue
    return tuple(
        sorted(
            package
            for package, owners in packages_distributions().items()
            if package in sys.modules and wanted & {canonicalize_name(owner) for owner in owners}
        )
    )


def _required(dist: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in dist.requires or ():
        try:
            requirement = Requirement(text)
            marker = requirement.marker
            holds = marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""}))
        except (InvalidRequirement, UndefinedEnvironmentName):
            continue
        if holds:
            yield requirement.name, frozenset(requirement.extras)
