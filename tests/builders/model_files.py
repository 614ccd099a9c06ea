"""Small model files, made from nothing."""

from __future__ import annotations

import json
import struct


def safetensors(**tensors: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file from name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())
