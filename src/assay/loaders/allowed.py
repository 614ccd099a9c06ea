"""The names a pickle may use when it is loaded: those rows of the audit's tables that the loader takes (``shared``).

Functions that are harmless only with some arguments are not among them: ``allowed_calls`` has a stand-in for each.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from assay.audit.globals import Role, canonical_module, shared
from assay.errors import BadFormat

__all__ = ["Role", "canonical_module", "resolve", "table"]

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
