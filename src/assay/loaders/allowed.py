"""The exact table of globals a pickle may name, each with what it may be used for.

The table is data (``allowed_globals.json``, written by ``tools/allowed_globals.py``): nothing is allowed by a prefix or
by walking attributes, and a name that holds a dot is in no row. A pair outside the table does not exist for a pickle.

Roles:

- ``construct``: a class whose instances may be made empty (``cls.__new__(cls)``, never ``__init__``) and given state;
- ``call``: a class or function that may be called, because any call of it is harmless;
- ``value``: something that may be named and kept, and that the unpickler never calls.

Functions that are harmless only with some arguments are not in the table: ``allowed_calls`` has a stand-in for each.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.resources import files

from assay.errors import BadFormat

_ALIASES = {
    "_loss": "sklearn._loss._loss",  # as compiled classes of scikit-learn 1.5 to 1.7 call their module
    "numpy.core": "numpy._core",
    "sklearn.externals.joblib": "joblib",
}
# Where modules moved to without a change of meaning; applied to whole leading components only.


class Role(StrEnum):
    """What an allowed global may be used for."""

    CONSTRUCT = "construct"
    CALL = "call"
    VALUE = "value"


def canonical_module(module: str) -> str:
    """The module under its present name.

    >>> canonical_module("numpy.core.multiarray")
    'numpy._core.multiarray'
    """
    for old, new in _ALIASES.items():
        if module == old or module.startswith(f"{old}."):
            return new + module[len(old) :]
    return module


@cache
def table() -> dict[tuple[str, str], Role]:
    """(module, name) to role."""
    document = json.loads(files("assay.loaders").joinpath("allowed_globals.json").read_text("utf-8"))
    return {
        (module, name): Role(role)
        for role, modules in document["globals"].items()
        for module, names in modules.items()
        for name in names
    }


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
