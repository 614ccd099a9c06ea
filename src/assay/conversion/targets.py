"""What can be converted to, for those who only offer it: the converters themselves import every format."""

from __future__ import annotations

TARGETS = ("safetensors", "skops", "keras", "ubj", "onnx")
"""Names of forms, in the order of ``registry.all_converters``."""
