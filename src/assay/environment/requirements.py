"""What a clean environment must hold for a model: exact where it was recorded, by name where only the files say so.

Records come from anywhere, so nothing but names, versions and extras gets through: no URL, no path, no option of an
installer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from assay.errors import CouldNot, InvalidInput
from assay.spec.json import Json

OWN = ("jinja2", "ml-dtypes", "numpy", "pyyaml")
"""Distributions that Assay's own loaders import, whatever the model."""
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-training"),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "tensorflow": ("tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly", "tensorflow-rocm"),
    "xgboost": ("xgboost-cpu",),
}
"""The same module under other names: one of them is enough, two get in each other's way."""
_COMPANIONS: Mapping[str, tuple[str, ...]] = {
    "diffusers": ("torch",),
    "keras": ("tensorflow", "torch", "jax"),
    "transformers": ("torch",),
}
"""Libraries that one needs to load a model and does not require itself; any of several will do, the first is taken."""
_ACCELERATORS = ("nvidia-", "triton", "pytorch-triton", "intel-cmplr", "cuda-")
"""Beginnings of names that come along with a wheel that was built for an accelerator, and only then."""
_NO_CODE = ("_", "pybind11_builtins")
# Beginnings of module names that compiled libraries and the running script give their classes.
MAX_REQUIREMENTS = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install.

    Args:
        requirements: of the model (PEP 508, one distribution each), sorted.
        constraints: exact versions of what may come along with these.
        own: of Assay's loaders.
        python: version that was recorded.
        cpu: whether torch is among them: a rehearsal shows no accelerator, so that its build for processors will do.
        source: ``environment`` or ``description``.
        notes: what a person should know.
    """

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    own: tuple[str, ...]
    python: str | None
    cpu: bool
    source: str
    notes: tuple[str, ...]


def wanted(
    environment: Mapping[str, Json] | None, described: Sequence[str], modules: Iterable[str] = (), *, what: str
) -> Wanted:
    """What an environment for a model must hold.

    Args:
        environment: predicate of the ``environment`` statement, where there is one.
        described: what the model's files name.
        modules: top-level packages that are needed besides.
        what: the model, for messages.

    Raises:
        CouldNot: nothing is recorded (code ``no-requirements``).
        InvalidInput: what is recorded cannot be installed by name and version (code ``bad-requirement``).
    """
    pins, notes = _pins(environment or {})
    found = {name: f"{name}=={version.public}" for name, version in pins.items()}
    constraints = [found.pop(name) for name in list(found) if name.startswith(_ACCELERATORS)]
    for text in (*described, *_owners(modules)):
        requirement = _requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in found and not any(other in found for other in _OTHER_NAMES.get(name, ())):
            found[name] = _plain(requirement)
    for companion, ways in _COMPANIONS.items():
        there = any(way in found or any(other in found for other in _OTHER_NAMES.get(way, ())) for way in ways)
        if canonicalize_name(companion) in found and not there:
            found[canonicalize_name(ways[0])] = ways[0]
    if not found:
        raise CouldNot(
            f"no requirements are recorded for {what}, and its files name none",
            code="no-requirements",
            hint="assay.push(model, name) records them; --environment rehearses in an environment that you have",
        )
    python = (environment or {}).get("python")
    recorded = python.get("version") if isinstance(python, Mapping) else None
    return Wanted(
        requirements=tuple(sorted(found.values())[:MAX_REQUIREMENTS]),
        constraints=tuple(sorted(constraints)),
        own=tuple(text for name, text in _own().items() if name not in found),
        python=str(recorded) if recorded else None,
        cpu="torch" in found,
        source="environment" if pins else "description",
        notes=notes,
    )


def _pins(environment: Mapping[str, Json]) -> tuple[dict[str, Version], tuple[str, ...]]:
    """Recorded distributions, and what the record says that cannot be installed."""
    recorded = environment.get("distributions")
    pins: dict[str, Version] = {}
    for name, text in (recorded if isinstance(recorded, Mapping) else {}).items():
        try:
            pins[canonicalize_name(name, validate=True)] = Version(str(text))
        except (InvalidVersion, ValueError) as error:
            raise InvalidInput(f"cannot install {name!r:.60} {text!r:.60}: {error}", code="bad-requirement") from error
    pins.pop("assay", None)
    local = environment.get("local_code")
    listed = local if isinstance(local, Sequence) and not isinstance(local, str) else ()
    names = [str(name) for name in listed if not str(name).startswith(_NO_CODE)]
    notes = (f"recorded as local code, which no index has: {', '.join(names[:5])}",) if names else ()
    return pins, notes


def _requirement(text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise InvalidInput(f"not a requirement: {text!r:.100}: {error}", code="bad-requirement") from error
    if requirement.url is not None:
        raise InvalidInput(
            f"{requirement.name} is required from an address, and only indexes are asked", code="bad-requirement"
        )
    return requirement


def _plain(requirement: Requirement) -> str:
    """Name, extras and versions, without local labels."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    versions = ",".join(sorted(f"{one.operator}{one.version.partition('+')[0]}" for one in requirement.specifier))
    return f"{canonicalize_name(requirement.name)}{extras}{versions}"


def _owners(modules: Iterable[str]) -> tuple[str, ...]:
    """Distributions of top-level packages, as installed here; else called like them."""
    owners = packages_distributions()
    return tuple(canonicalize_name(owners.get(name, [name])[0]) for name in modules)


def _own() -> dict[str, str]:
    """``OWN`` with the versions that Assay's own metadata asks for."""
    try:
        stated = [Requirement(text) for text in requires("assay") or ()]
    except PackageNotFoundError:
        stated = []
    ours: dict[str, str] = {canonicalize_name(one.name): _plain(one) for one in stated if one.marker is None}
    return {name: ours.get(name, name) for name in OWN}
