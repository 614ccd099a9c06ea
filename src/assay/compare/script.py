"""TorchScript code: the classes and functions of a module, whatever numbers torch gave them.

Torch tells classes of one name apart by a number in their path (``___torch_mangle_14``) that depends on what else was
traced in the same process. Names are therefore numbered again, in the order in which they are met from the root class
on; code that differs then differs in what it says.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from assay.compare.gathering import Gathered, Judgement
from assay.compare.texts import diff
from assay.containers.archive import Archive
from assay.spec.changes import Area, Effect, ItemKind

MAX_CODE = 64 << 20
"""Bytes of code that are read of one archive."""

_MANGLED = re.compile(r"\.___torch_mangle_\d+")
_NAME = re.compile(r"__torch__(?:\.\w+)+")
_NUMBER = re.compile(r"#\d+")
_CODE = Judgement(Area.CODE)
_RENUMBERED = Judgement(Area.METADATA, Effect.NOTE, "numbers that torch gives to classes of one name")


@dataclass(frozen=True, slots=True)
class Code:
    """The code of one archive in an order of its own.

    Args:
        files: text by a name without torch's numbers, in the order in which the files are met.
    """

    files: dict[str, str]


def is_code(name: str) -> bool:
    """Whether a member is code of the module."""
    return name.startswith("code/") and name.endswith(".py")


def read_code(archive: Archive, members: dict[str, str], roots: list[str]) -> Code:
    """The code members, renumbered.

    Args:
        archive: the archive.
        members: member names without the folder, to their full names.
        roots: classes in the order in which the pickled module names them.

    Raises:
        AssayError: they cannot be read.
        ValueError: there is too much of it.
    """
    texts: dict[str, str] = {}
    total = 0
    for name, inner in members.items():
        if is_code(name):
            total += archive.member(inner).size
            if total > MAX_CODE:
                raise ValueError(f"more than {MAX_CODE:,} bytes of code")
            texts[name.removeprefix("code/").removesuffix(".py").replace("/", ".")] = archive.read(inner).decode()
    order = _order(texts, roots)
    numbers: dict[str, str] = {}
    counts: dict[str, int] = {}
    for module in order:
        plain = _MANGLED.sub("", module)
        counts[plain] = counts.get(plain, 0) + 1
        numbers[module] = plain if counts[plain] == 1 else f"{plain}#{counts[plain]}"

    def renumber(found: re.Match[str]) -> str:
        parts = found[0].split(".")
        for at in range(len(parts), 0, -1):
            module = ".".join(parts[:at])
            if module in numbers:
                return ".".join([numbers[module], *parts[at:]])
        return found[0]

    return Code({numbers[module]: _NAME.sub(renumber, texts[module]) for module in order})


def compare_code(gathered: Gathered, old: Code, new: Code, path: str, *, renumbered: bool) -> None:
    """Note what changed between the code of two archives; *renumbered* when the members themselves differ."""
    told = False
    seen: dict[tuple[ItemKind, str, str], int] = {}
    firsts = []
    for name in dict.fromkeys([*old.files, *new.files]):
        one, other = old.files.get(name), new.files.get(name)
        if one == other:
            continue
        told = True
        kind = ItemKind.ADDED if one is None else ItemKind.REMOVED if other is None else ItemKind.CHANGED
        text = diff(one, other) if one is not None and other is not None else None
        same = (kind, _NUMBER.sub("", name), _NUMBER.sub("", text or ""))
        if same in seen:
            seen[same] += 1
            continue
        seen[same] = 1
        firsts.append((same, f"{path}!code: {name}", text))
    for same, place, text in firsts:
        times = f"\n({seen[same]} classes of this name differ so)" if seen[same] > 1 else ""
        gathered.add(_CODE, place, same[0], text=(text or "") + times or None)
    if not told and renumbered:
        gathered.add(_RENUMBERED, f"{path}!code", ItemKind.CHANGED)


def _order(texts: dict[str, str], roots: list[str]) -> list[str]:
    """Modules in the order in which they are met; those that nothing reaches at the end, by name."""
    met: dict[str, None] = {}
    queue = deque(module for root in roots if (module := _module(root, texts)))
    while queue:
        module = queue.popleft()
        if module in met:
            continue
        met[module] = None
        for name in _NAME.findall(texts[module]):
            found = _module(name, texts)
            if found is not None and found not in met:
                queue.append(found)
    for module in sorted(texts):
        met.setdefault(module)
    return list(met)


def _module(name: str, texts: dict[str, str]) -> str | None:
    """The module of a class or function: its name without the last parts."""
    parts = name.split(".")
    for at in range(len(parts), 0, -1):
        module = ".".join(parts[:at])
        if module in texts:
            return module
    return None
