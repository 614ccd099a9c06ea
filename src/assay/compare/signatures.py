"""What goes in and what comes out: ports added, removed, of another type or shape."""

from __future__ import annotations

from collections.abc import Sequence

from assay.compare.gathering import Gathered, Judgement, examples
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.description import Port

_SIGNATURE = Judgement(Area.SIGNATURE)
_WIDER = Judgement(Area.SIGNATURE, Effect.BEHAVIOUR, "it takes what it took before, and more")
_NAMES = Judgement(Area.SIGNATURE, Effect.NOTE, "a free size has another name; any size is taken as before")
MANY = 12
"""Ports from which on they are told as one."""

Shape = tuple[int | str | None, ...] | None


def compare_ports(gathered: Gathered, old: Sequence[Port], new: Sequence[Port], what: str) -> None:
    """Note what changed between two lists of ports.

    Args:
        gathered: where to note it.
        old, new: the ports.
        what: ``inputs`` or ``outputs``, for the items' paths.
    """
    if not old or not new:
        return  # one side does not state them, which is no difference
    before, after = {port.name: port for port in old}, {port.name: port for port in new}
    added, removed = [name for name in after if name not in before], [name for name in before if name not in after]
    if len(added) + len(removed) > MANY:
        parts = [f"{len(added):,} added ({examples(added)})"] if added else []
        parts += [f"{len(removed):,} removed ({examples(removed)})"] if removed else []
        gathered.add(_SIGNATURE, what, ItemKind.CHANGED, len(old), len(new), "; ".join(parts))
    else:
        for name in removed:
            gathered.add(_SIGNATURE, f"{what}: {name}", ItemKind.REMOVED, told(before[name]))
        for name in added:
            gathered.add(_SIGNATURE, f"{what}: {name}", ItemKind.ADDED, None, told(after[name]))
    for name, port in before.items():
        if name in after:
            _port(gathered, port, after[name], f"{what}: {name}")
    shared = [name for name in before if name in after]
    if shared != [name for name in after if name in before]:
        gathered.add(
            _SIGNATURE,
            what,
            ItemKind.CHANGED,
            shared[:MANY],
            [n for n in after if n in before][:MANY],
            "the order changed",
        )


def told(port: Port) -> str:
    """A port in a word: ``float32[?, 3, 224, 224]``."""
    if port.shape is None:
        return port.dtype
    return f"{port.dtype}[{', '.join('?' if size is None else str(size) for size in port.shape)}]"


def _port(gathered: Gathered, old: Port, new: Port, path: str) -> None:
    if old == new:
        return
    if old.dtype != new.dtype:
        gathered.add(_SIGNATURE, path, ItemKind.CHANGED, told(old), told(new))
    elif _sizes(old.shape) == _sizes(new.shape) and _one_to_one(old.shape, new.shape):
        gathered.add(_NAMES, path, ItemKind.CHANGED, told(old), told(new))
    elif path.startswith("inputs") and wider(old.shape, new.shape):
        gathered.add(_WIDER, path, ItemKind.CHANGED, told(old), told(new), "wider: it takes more than before")
    else:
        gathered.add(_SIGNATURE, path, ItemKind.CHANGED, told(old), told(new))


def wider(old: Shape, new: Shape) -> bool:
    """Whether every size that *old* takes is one that *new* takes.

    >>> wider((1, 3), (None, 3)), wider((None, 3), (1, 3))
    (True, False)
    """
    if new is None or old is None:
        return new is None
    if len(old) != len(new):
        return False
    tied: dict[str, int | str | None] = {}
    for here, there in zip(old, new, strict=True):
        if isinstance(there, int) and here != there:
            return False
        if isinstance(there, str) and new.count(there) > 1 and (here is None or tied.setdefault(there, here) != here):
            return False  # two sizes that were free are now one
    return True


def _sizes(shape: Shape) -> list[int | None] | None:
    return None if shape is None else [size if isinstance(size, int) else None for size in shape]


def _one_to_one(old: Shape, new: Shape) -> bool:
    """Whether names of free sizes were renamed one by one: two that were one size still are."""
    pairs = {
        (here, there)
        for here, there in zip(old or (), new or (), strict=False)
        if isinstance(here, str) or isinstance(there, str)
    }
    named = [(here, there) for here, there in pairs if here is not None and there is not None]
    return len({here for here, _ in named}) == len(named) == len({there for _, there in named})
