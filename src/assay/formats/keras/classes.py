"""What Keras has by itself: classes and functions by the part of Keras they live in.

The list ``classes.txt`` is data, made from Keras 3.15 by looking through its modules for what can be built from a
configuration, plus what Keras 1 and 2 and ``tf.keras`` had and Keras 3 has not. A line is a part, a colon and names;
``part()`` lists functions. What runs code of the file or opens files is left out on purpose (``Lambda``, ``TFSMLayer``,
``TorchModuleWrapper``, ``JaxLayer``, ``FlaxLayer``).
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files

ROOTS = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "tensorflow_core.python.keras")
FAMILY = ("keras_hub", "keras_nlp", "keras_cv", "keras_tuner", "keras_rs", "tensorflow_addons")
"""Packages by the Keras authors that are imported when named: published, but not Keras."""

_WRAPPINGS = frozenset({"src", "api", "_v1", "_v2", "_tf_keras", "keras"})
"""Folders that lie around the parts in one version or another."""

_ALSO = {
    "engine": ("layers", "models"),
    "mixed_precision": ("dtype_policies", "optimizers"),
    "feature_column": ("layers",),
    "premade": ("models",),
    "premade_models": ("models",),
    "legacy": ("layers", "optimizers", "losses", "metrics"),
    "legacy_tf_layers": ("layers",),
    "optimizer_v1": ("optimizers",),
    "optimizer_v2": ("optimizers",),
    "layers": ("models",),
    "activations": ("layers",),
    "initializers_v1": ("initializers",),
    "metrics_v2": ("metrics",),
}
"""Parts of other versions, and where their classes live today."""


@lru_cache(1024)
def part_of(module: str) -> str | None:
    """The part of Keras that *module* belongs to (``""``: Keras itself), or None when it is not Keras'.

    >>> part_of("keras.src.layers.core.dense"), part_of("tensorflow.keras.losses"), part_of("keras"), part_of("os")
    ('layers', 'losses', '', None)
    """
    for root in sorted(ROOTS, key=len, reverse=True):
        if module == root or module.startswith(f"{root}."):
            rest = [name for name in module[len(root) :].split(".") if name]
            while rest and rest[0] in _WRAPPINGS:
                rest = rest[1:]
            return rest[0] if rest else ""
    return None


def is_family(module: str) -> bool:
    """Whether a module belongs to a package by the Keras authors."""
    return module.split(".", 1)[0] in FAMILY


def has_part(part: str) -> bool:
    """Whether models have a reason to name anything of this part."""
    return not part or part in _ALSO or any(known in _table() for known in (part, f"{part}()"))


def has_class(name: str, part: str | None = None) -> bool:
    """Whether Keras has a class of this name, in one part or (None, ``""``) in any."""
    return _has(name, part, "")


def has_function(name: str, part: str | None = None) -> bool:
    """Whether Keras has a function of this name that only computes, in one part or in any."""
    return _has(name, part, "()")


@lru_cache(4096)
def _has(name: str, part: str | None, suffix: str) -> bool:
    table = _table()
    if not part:
        return any(name in names for known, names in table.items() if known.endswith("()") == bool(suffix))
    return any(name in table.get(known + suffix, ()) for known in (part, *_ALSO.get(part, ())))


@cache
def _table() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in files("assay.formats.keras").joinpath("classes.txt").read_text("utf-8").splitlines():
        part, _, names = line.partition(": ")
        found.setdefault(part, set()).update(names.split())
    return {part: frozenset(names) for part, names in found.items()}
