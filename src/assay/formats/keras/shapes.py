"""Output shapes of Keras layers, as far as a configuration tells without computing the model.

Concept: an unknown size is not "any size". Layers that are not known here give no shape, and what comes behind them
has none either until a layer fixes it again.

Source: the layers' documentation at keras.io (output shapes), channels last unless ``data_format`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from assay.spec.json import Json

UNKNOWN = -1
"""A size that is fixed but not known to us."""

Shape = tuple[int | None, ...]

_MAX_SIZE = 1 << 40
_SAME = frozenset(
    "Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax Dropout SpatialDropout1D SpatialDropout2D "
    "SpatialDropout3D GaussianNoise GaussianDropout AlphaDropout BatchNormalization LayerNormalization "
    "GroupNormalization UnitNormalization RMSNormalization ActivityRegularization Masking Rescaling Normalization "
    "Add Multiply Average Maximum Minimum Subtract Identity Functional Sequential".split()
) - {"Functional", "Sequential"}
_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "SeparableConv", "Conv2DTranspose")
_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU"})


def shape_of(value: Json) -> Shape | None:
    """A shape as a configuration writes it, or None."""
    if not isinstance(value, list) or len(value) > 64:
        return None
    sizes: list[int | None] = []
    for size in value:
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE):
            return None
        sizes.append(size)
    return tuple(sizes)


def output_shape(kind: str, config: Mapping[str, Json], given: Shape | None) -> Shape | None:
    """The shape a layer gives.

    Args:
        kind: class name.
        config: the layer's configuration.
        given: shape of its (first) input, None when not known.
    """
    if kind in _SAME or given is None:
        return given
    units = config.get("units")
    if kind == "Dense" and isinstance(units, int):
        return (*given[:-1], units)
    if kind == "Flatten":
        rest = given[1:]
        known = all(size is not None and size != UNKNOWN for size in rest)
        return (given[0], prod(size or 0 for size in rest) if known else UNKNOWN)
    if kind == "Reshape":
        target = shape_of(config.get("target_shape"))
        return None if target is None or UNKNOWN in target else (given[0], *target)
    first = config.get("data_format") == "channels_first"
    if kind.startswith("Global") and "Pool" in kind and len(given) > 2 and not config.get("keepdims"):
        return (given[0], given[1 if first else -1])
    filters = config.get("filters")
    if kind.startswith(_CONVOLUTIONS) and isinstance(filters, int):
        spatial = (UNKNOWN,) * (len(given) - 2)
        return (given[0], filters, *spatial) if first else (given[0], *spatial, filters)
    if "Pooling" in kind or "ZeroPadding" in kind or "Cropping" in kind or kind.startswith(("Depthwise", "UpSampling")):
        return (given[0], *(UNKNOWN,) * (len(given) - 2), given[-1]) if "Depthwise" not in kind and not first else None
    if kind in _RECURRENT and isinstance(units, int) and len(given) == 3:
        return (given[0], given[1], units) if config.get("return_sequences") else (given[0], units)
    output = config.get("output_dim")
    if kind == "Embedding" and isinstance(output, int):
        return (*given, output)
    return None
