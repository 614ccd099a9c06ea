"""Symbols of TensorFlow that Keras 2 keeps as layers (``TFOpLambda``): which only compute.

A functional model of Keras 2 records every TensorFlow function that its author called (``math.add``, ``concat``); a
loader looks the name up in TensorFlow's public interface and calls it.
"""

from __future__ import annotations

from collections.abc import Iterator

from assay.spec.finding import Finding, Severity

_COMPUTING = frozenset(
    "__operators__ audio autodiff bitwise dtypes image linalg math nn quantization ragged random sets signal sparse "
    "strings".split()
)
"""Parts of TensorFlow that hold nothing but functions of tensors."""

_PLAIN = frozenset(
    """
    abs acos acosh add add_n argmax argmin argsort as_string asin asinh atan atan2 atanh batch_to_space bitcast
    boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast clip_by_global_norm clip_by_norm
    clip_by_value complex concat constant convert_to_tensor cos cosh cumprod cumsum div divide dynamic_partition
    dynamic_stitch edit_distance eig eigvals einsum ensure_shape equal exp expand_dims extract_volume_patches eye
    fill fingerprint floor gather gather_nd greater greater_equal histogram_fixed_width identity identity_n
    image_gradients invert_permutation less less_equal linspace logical_and logical_not logical_or matmul maximum
    meshgrid minimum mod multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv
    reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat
    required_space_to_batch_paddings reshape reverse reverse_sequence roll round rsqrt saturate_cast scalar_mul
    searchsorted sequence_mask shape shape_n sigmoid sign sin sinh size slice sort space_to_batch space_to_batch_nd
    split sqrt square squeeze stack stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_add
    tensor_scatter_nd_max tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile
    transpose truediv truncatediv truncatemod unique unique_with_counts unravel_index unstack where zeros
    zeros_like
    """.split()
)

_REACHING = (
    "io.",
    "raw_ops.",
    "compat.",
    "data.",
    "saved_model.",
    "load_",
    "py_function",
    "numpy_function",
    "keras.",
    "distribute.",
    "debugging.",
    "summary.",
    "train.",
    "lite.",
    "config.",
    "autograph.",
    "print",
)
"""Beginnings of symbols that reach beyond numbers."""

_KERAS = ("keras.activations.", "keras.backend.", "keras.losses.", "keras.metrics.")


def judge_symbol(name: str, label: str, path: str) -> Iterator[Finding]:
    """Findings about one symbol.

    Args:
        name: as the layer has it, without ``tf.``.
        label: the layer.
        path: the entry it stands in.
    """
    top, dot, last = name.partition(".")
    if not name or (top in _COMPUTING if dot else name in _PLAIN):
        return
    if name.startswith(_KERAS) and last.rpartition(".")[2].islower() and "load" not in last and "save" not in last:
        return
    if name.startswith(_REACHING):
        text = f"Keras configuration: layer {label!r} calls a TensorFlow symbol that reaches outside"
        effect = "call a TensorFlow function that the artifact names"
        yield Finding("keras-foreign-op", Severity.EXECUTE, text, path, evidence=name[:200], effect=effect)
    else:
        text = f"Keras configuration: layer {label!r} calls a TensorFlow symbol that is not known to only compute"
        yield Finding("keras-unknown-op", Severity.INCOMPLETE, text, path, evidence=name[:200])
