"""What every command needs: the registry the options and settings name."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from assay.errors import AssayError
from assay.service.registry import Registry
from assay.settings import read_settings
from assay.wiring.places import open_registry


def registry_of(context: click.Context, *, create: bool = False) -> Registry:
    """The registry of this invocation; only what writes into it makes it.

    Raises:
        AssayError: it cannot be opened.
    """
    return open_registry(read_settings(home=context.find_root().obj), create=create)


class Named(click.types.StringParamType):
    """What names a model or a version; completes from what is in the registry.

    Args:
        labels: whether versions and aliases are completed too.
    """

    name = "reference"

    def __init__(self, *, labels: bool = True) -> None:
        self._labels = labels

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Names, and after a colon labels, that begin with what was typed; nothing when there is no registry."""
        name, colon, _ = incomplete.partition(":")
        try:
            catalog = registry_of(ctx).catalog
            if not (colon and self._labels):
                return [CompletionItem(model.name) for model in catalog.models(prefix=incomplete, limit=200)]
            labels = [alias.alias for alias in catalog.aliases(name)]
            labels += [str(version.number) for version in catalog.versions(name, limit=50)]
        except AssayError:
            return []
        return [CompletionItem(found) for label in labels if (found := f"{name}:{label}").startswith(incomplete)]


NAME = Named(labels=False)
REFERENCE = Named()
