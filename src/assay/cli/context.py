"""What every command needs: the registry the options and settings name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from assay.cli.console import Command, warn
from assay.errors import AssayError
from assay.service.registry import Registry
from assay.settings import Settings, expanded, read_settings
from assay.wiring.places import open_registry


def registry_of(context: click.Context, *, create: bool = False, told: Callable[[str], None] | None = None) -> Registry:
    """The registry of this invocation; only what writes into it makes it.

    Args:
        context: of the command.
        create: make it when it is not there.
        told: hears when what is named was yanked; a warning, once each, when None.

    Raises:
        AssayError: it cannot be opened.
    """
    return open_registry(settings_of(context), create=create, warn=told or cache(warn))


def settings_of(context: click.Context, *, policy: str | None = None) -> Settings:
    """What applies to this invocation.

    Args:
        context: of the command.
        policy: as given to the command.

    Raises:
        AssayError: settings cannot be read.
    """
    return read_settings(home=context.find_root().obj, policy=policy)


def local_path(text: str, what: str) -> Path:
    """A path as typed, with ``~`` expanded.

    Raises:
        UsageError: it is empty, which an unset variable of a script makes it, and must not mean the current folder.
        NotFound: there is no such user (code ``path-not-found``).
    """
    if not text:
        raise click.UsageError(f"{what} is empty; the current folder is '.'")
    return expanded(text)


def policy_option(command: Command) -> Command:
    """Add ``--policy``."""
    return click.option(
        "--policy", metavar="FILE|NAME", help="The policy: default, strict, audit-only or a file (else ASSAY_POLICY)."
    )(command)


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


class Movable(click.types.StringParamType):
    """An alias of the model named before it; completes from those it has."""

    name = "alias"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Aliases that begin with what was typed; nothing when there is no registry."""
        named = str(ctx.params.get("name") or ctx.params.get("reference") or "").partition(":")[0]
        try:
            aliases = registry_of(ctx).catalog.aliases(named)
        except AssayError:
            return []
        return [CompletionItem(found.alias) for found in aliases if found.alias.startswith(incomplete)]


NAME = Named(labels=False)
REFERENCE = Named()
ALIAS = Movable()
