"""Which formats there are: ours in order of preference, then those of installed plugins.

A plugin is any distribution with an entry point in the group ``assay.formats`` that names a ``Format`` class or
instance (``docs/how-to/add-a-format.md``). One that cannot be imported is reported by a warning and left out: a broken
plugin must not keep anybody from packing a model.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import entry_points

from assay.ports.formats import Format

GROUP = "assay.formats"

_BUILTIN: tuple[type[Format], ...] = ()


@cache
def all_formats() -> tuple[Format, ...]:
    """One instance of every format. Order: directory formats, then file formats, ours before plugins'."""
    found: list[Format] = [form() for form in _BUILTIN]
    names = {form.name for form in found}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
            form = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way
            warnings.warn(f"format plugin {point.name} ({point.value}) is left out: {error}", stacklevel=2)
            continue
        if not isinstance(form, Format) or form.name in names:
            reason = "it is not a Format" if not isinstance(form, Format) else "its name is taken"
            warnings.warn(f"format plugin {point.name} ({point.value}) is left out: {reason}", stacklevel=2)
            continue
        names.add(form.name)
        found.append(form)
    return tuple(found)
