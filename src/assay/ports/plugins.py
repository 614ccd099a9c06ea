"""Plugins: implementations of a port that other distributions bring, found by entry points.

One rule: a broken plugin must not keep anybody from working. One that cannot be imported, or is no implementation, is
reported by a warning and left out. Not here: which groups there are and what is built in (the registries).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import entry_points


def plugins(group: str, port: type, *, refuse: Callable[[object], str] = lambda _: "") -> list[object]:
    """One instance per entry point of *group* that names a class or an instance of *port*, ordered by name.

    Args:
        group: of entry points.
        port: the protocol they implement.
        refuse: why an implementation cannot be used all the same; empty when it can.
    """
    found: list[object] = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            loaded = point.load()
            value = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way
            reason = str(error)
        else:
            reason = refuse(value) if isinstance(value, port) else f"it is no {port.__name__}"
            if not reason:
                found.append(value)
                continue
        warnings.warn(f"{group} plugin {point.name} ({point.value}) is left out: {reason}", stacklevel=3)
    return found
