"""What every command needs: the registry the options and settings name."""

from __future__ import annotations

import click

from assay.service.registry import Registry
from assay.settings import read_settings
from assay.wiring.places import open_registry


def registry_of(context: click.Context, *, create: bool = False) -> Registry:
    """The registry of this invocation; only what writes into it makes it.

    Raises:
        AssayError: it cannot be opened.
    """
    return open_registry(read_settings(home=context.find_root().obj), create=create)
