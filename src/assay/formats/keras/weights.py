"""Weights of Keras models in HDF5: which belong to the model, which to the optimizer, which to which layer.

The layouts:

    full model (.h5)        model_weights/<layer>/…          optimizer_weights/…
    weights only (.h5)      <layer>/…                        attribute layer_names
    Keras 3 (.weights.h5)   layers/<kind>/vars/<n>           optimizer/vars/<n>      attribute name of each vars
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from assay.containers.hdf5.file import File, Group
from assay.formats.hdf5_tensors import shown
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec

_OPTIMIZER = frozenset({"optimizer", "optimizer_weights"})
_STATE = frozenset({"seed_generator", "metrics", "compile_metrics"})
_LOOKED_AT = 1000
"""Groups that are looked at to recognise the Keras 3 layout."""


def is_keras(file: File) -> bool:
    """Whether an HDF5 file was written by Keras."""
    attributes = file.root.attributes
    if any(name in attributes for name in ("model_config", "layer_names", "layer_names0", "keras_version")):
        return True
    members = file.root.members
    if isinstance(members.get("model_weights"), Group):
        return True
    return _has_variables(file.root)


def is_optimizer(name: str) -> bool:
    """Whether a tensor is state of the optimizer."""
    return name.partition("/")[0] in _OPTIMIZER


def parameter_count(specs: Iterable[TensorSpec]) -> int:
    """Numbers of the model itself: what ``Model.count_params`` counts."""
    return sum(
        spec.size
        for spec in specs
        if not is_optimizer(spec.name)
        and spec.trained
        and not any(part in _STATE or part.startswith("seed_generator") for part in spec.name.split("/"))
    )


def optimizer_facts(specs: Iterable[TensorSpec]) -> dict[str, Json]:
    """How many tensors and elements are the optimizer's, if any are."""
    sizes = [spec.size for spec in specs if is_optimizer(spec.name)]
    return {"optimizer_tensors": len(sizes), "optimizer_parameters": sum(sizes)} if sizes else {}


def weights_by_layer(specs: Iterable[TensorSpec], groups: Mapping[str, Group]) -> dict[str, dict[str, str]]:
    """Layer name to its weights as short text; layers of nested models are found in the Keras 3 layout only."""
    names = {
        path: name
        for path, group in groups.items()
        if path.endswith("/vars") and isinstance(name := group.attributes.get("name"), str)
    }
    layers: dict[str, dict[str, str]] = {}
    for spec in specs:
        if is_optimizer(spec.name):
            continue
        folder, _, last = spec.name.rpartition("/")
        if folder.endswith("vars"):
            if folder in names:
                layers.setdefault(names[folder], {})[last] = shown(spec)
        else:
            layer, _, rest = spec.name.removeprefix("model_weights/").partition("/")
            # Layer names come twice: as the group and in the weight's own name, there perhaps with a number.
            scope, _, own = rest.partition("/")
            weight = own if own and scope.startswith(layer) else rest
            layers.setdefault(layer, {})[weight.partition(":")[0]] = shown(spec)
    return layers


def _has_variables(root: Group) -> bool:
    """Whether some layer has the ``vars`` group of the Keras 3 layout: with datasets named 0, 1, 2 and so on."""
    waiting, seen = deque([root]), 0
    while waiting and seen < _LOOKED_AT:
        group = waiting.popleft()
        seen += 1
        variables = group.members.get("vars")
        if isinstance(variables, Group) and (
            "name" in variables.attributes
            or (variables.members and all(name.isdecimal() for name in variables.members))
        ):
            return True
        waiting.extend(item for item in list(group.members.values())[:_LOOKED_AT] if isinstance(item, Group))
    return False
