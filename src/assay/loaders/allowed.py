"""The names a pickle may use when it is loaded: those rows of the audit's tables that the loader takes (``shared``).

Functions that are harmless only with some arguments are not among them: ``allowed_calls`` has a stand-in for each.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from assay.audit.globals import Role, canonical_module, shared
from assay.errors import BadFormat, MissingDependency
from assay.spec.description import Description

__all__ = ["Role", "canonical_module", "permitted_classes", "resolve", "table"]

table = shared


@cache
def resolve(module: str, name: str) -> object:
    """The object behind a pair that is in the table.

    Raises:
        BadFormat: the installed library does not have it (code ``library-mismatch``).
    """
    try:
        return vars(import_module(module))[name]
    except (ImportError, KeyError) as error:
        library = module.partition(".")[0]
        raise BadFormat(
            f"{module}.{name} does not exist in the installed {library}",
            code="library-mismatch",
            hint=f"install the {library} version the model was saved with",
        ) from error


def permitted_classes(description: Description) -> dict[str, type]:
    """The classes that the files of *description* name and a policy permits beyond the table, by ``module.name``.

    Importing them runs their package, which is installed here and which the policy names: it is not the artifact's.

    Raises:
        BadFormat: a package has no such class (code ``library-mismatch``).
        MissingDependency: the package is not installed.
    """
    found = {}
    for full in sorted(description.permitted.intersection(description.globals)):
        module, _, name = full.rpartition(".")
        try:
            value = resolve(module, name)
        except BadFormat as error:
            if isinstance(error.__cause__, ModuleNotFoundError):
                raise MissingDependency(
                    f"{full} is permitted by the policy, and its package is not installed",
                    hint="install the package that has it",
                ) from error
            raise
        if isinstance(value, type):
            found[full] = value
    return found
