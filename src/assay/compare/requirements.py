"""What must be installed: requirements added, removed, and of other versions.

A newer version of a library that stays in its major version is a note: the model is the same, and whether the library
still does the same is the library's promise. Another major version breaks that promise, and a requirement that comes or
goes changes where the model can run at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from assay.compare.documents import read
from assay.compare.gathering import Gathered, Judgement
from assay.containers.guard import guarded
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.trees import Window

MAX_FILE = 4 << 20

FRAMEWORKS = frozenset(
    "torch tensorflow tensorflow-cpu keras scikit-learn xgboost lightgbm catboost transformers onnxruntime numpy scipy "
    "sentence-transformers spacy diffusers peft tokenizers pandas".split()
)
"""Libraries that a model is computed by; of others another major version is a note."""
READERS = frozenset({"safetensors", "joblib", "skops", "h5py", "cloudpickle", "mlflow", "mlflow-skinny", "packaging"})
"""Libraries that only read files; they come and go with the container."""

_CONDA = re.compile(r"^([A-Za-z0-9_.-]+?)\s*(?:=\s*(\d[^=\s]*)(?:=\S+)?)?$")


def compare_requirements(gathered: Gathered, old: Window, new: Window, path: str) -> None:
    """Note what changed between two files of requirements."""
    try:
        with guarded("requirements", path):
            before, after = _read(old, path), _read(new, path)
    except AssayError as error:
        gathered.unread(path, error.message, Area.DEPENDENCIES)
        return
    if not compare_lists(gathered, before, after, path):
        why = "the same requirements, written differently"
        gathered.add(Judgement(Area.DEPENDENCIES, Effect.NOTE, why), path, ItemKind.CHANGED)


def compare_lists(gathered: Gathered, old: Mapping[str, str], new: Mapping[str, str], path: str) -> bool:
    """Note what changed between two sets of requirements, name to what is asked of it; whether anything did."""
    told = False
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one == other:
            continue
        told = True
        kind = ItemKind.ADDED if one is None else ItemKind.REMOVED if other is None else ItemKind.CHANGED
        judged = _judge(name, one, other)
        gathered.add(judged, f"{path}: {name}", kind, one, other, step(one, other))
    return told


def _judge(name: str, old: str | None, new: str | None) -> Judgement:
    if old is None or new is None:
        if name in READERS:
            return Judgement(Area.DEPENDENCIES, Effect.NOTE, "a library that only reads files")
        return Judgement(Area.DEPENDENCIES, Effect.BEHAVIOUR, "where it can run depends on what must be installed")
    size = step(old, new)
    if size == "other version" or (size == "major version" and name in {*FRAMEWORKS, "python"}):
        why = "libraries may change what they do between major versions"
        return Judgement(Area.DEPENDENCIES, Effect.BEHAVIOUR, why if size == "major version" else None)
    return Judgement(Area.DEPENDENCIES, Effect.NOTE, "another version of a library; the model is the same")


def step(old: str | None, new: str | None) -> str | None:
    """How far apart two pinned versions are.

    >>> step("==1.8.0", "==1.9.1"), step("==1.8.0", "==2.0"), step(">=1", "<9")
    ('minor version', 'major version', 'other version')
    """
    if old is None or new is None:
        return None
    pinned = [version_of(text) for text in (old, new)]
    if pinned[0] is None or pinned[1] is None:
        return "other version"
    one, other = pinned[0], pinned[1]
    if one.major != other.major:
        return "major version"
    return "minor version" if one.minor != other.minor else "patch version"


def version_of(text: str) -> Version | None:
    """The one version that a specifier pins; None when it pins none."""
    bare = text.lstrip("= ").strip()
    if text and not text.startswith("=") and not text[:1].isdigit():
        return None
    try:
        return Version(bare)
    except InvalidVersion:
        return None


def named(requirements: Iterable[str]) -> dict[str, str]:
    """Requirements by name: what is asked of each."""
    found: dict[str, str] = {}
    for line in requirements:
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            parsed = Requirement(text)
        except InvalidRequirement:
            conda = _CONDA.match(text)
            name, asked = (conda[1].lower(), f"=={conda[2]}" if conda[2] else "") if conda else (text, "")
        else:
            extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
            marker = f"; {parsed.marker}" if parsed.marker else ""
            asked = f"{extras}{parsed.specifier}{f' @ {parsed.url}' if parsed.url else ''}{marker}"
            name = canonicalize_name(parsed.name)
        found[name] = f"{found[name]}, {asked}" if name in found and found[name] != asked else asked
    return found


def _read(window: Window, path: str) -> dict[str, str]:
    if path.endswith((".yaml", ".yml")):
        value = read(window, path).value
        return named(_listed(value))
    if window.size > MAX_FILE:
        raise ValueError(f"longer than {MAX_FILE:,} bytes")
    return named(window.read().decode("utf-8-sig").replace("\\\n", " ").splitlines())


def _listed(value: Any) -> list[str]:
    """What a conda or virtualenv environment asks for; names of environments and channels are left out."""
    if not isinstance(value, Mapping):
        return []
    found: list[str] = [f"python=={value['python']}"] if "python" in value else []
    for key in ("dependencies", "build_dependencies"):
        entries = value.get(key)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, str):
                found.append(entry)
            elif isinstance(entry, Mapping):
                inner = entry.get("pip")
                found.extend(str(one) for one in inner if isinstance(one, str)) if isinstance(inner, list) else None
    return found
