"""The contract of formats, run over safetensors, GGUF, numpy files and the folders of Hugging Face libraries."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping

import numpy as np

from assay.formats.gguf.files import GgufFormat
from assay.formats.huggingface.diffusers import DiffusersFormat
from assay.formats.huggingface.peft import PeftFormat
from assay.formats.huggingface.sentence_transformers import SentenceTransformersFormat
from assay.formats.huggingface.transformers import TransformersFormat
from assay.formats.npz import NpzFormat
from assay.formats.safetensors.files import SafetensorsFormat
from assay.ports.formats import Format
from assay.testing.formats import FormatContract


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


class TestSafetensors(FormatContract):
    def make_format(self) -> Format:
        return SafetensorsFormat()

    def make_files(self) -> Mapping[str, bytes]:
        header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
        return {"model.safetensors": struct.pack("<Q", len(header)) + header + bytes(16)}


class TestShardedSafetensors(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return SafetensorsFormat()

    def make_files(self) -> Mapping[str, bytes]:
        files = {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "x.st", "b": "y.st"}}).encode()}
        for name, shard in (("a", "x.st"), ("b", "y.st")):
            header = json.dumps({name: {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()
            files[shard] = struct.pack("<Q", len(header)) + header + bytes(4)
        return files


class TestGguf(FormatContract):
    def make_format(self) -> Format:
        return GgufFormat()

    def make_files(self) -> Mapping[str, bytes]:
        tokens = struct.pack("<IIQ", 9, 8, 2) + text(b"<s>") + text(b"a")
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
        head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
        head += text(b"tokenizer.ggml.tokens") + tokens
        head += text(b"w") + struct.pack("<IQIQ", 1, 32, 8, 0)
        return {"model.gguf": head + bytes(-len(head) % 32) + bytes(34) + bytes(30)}


class TestNpz(FormatContract):
    def make_format(self) -> Format:
        return NpzFormat()

    def make_files(self) -> Mapping[str, bytes]:
        buffer = io.BytesIO()
        np.savez(buffer, a=np.ones((2, 3)), b=np.asfortranarray(np.ones((2, 2), ">f4")))
        return {"model.npz": buffer.getvalue()}


class TestNpy(FormatContract):
    def make_format(self) -> Format:
        return NpzFormat()

    def make_files(self) -> Mapping[str, bytes]:
        buffer = io.BytesIO()
        np.save(buffer, np.ones((2, 3)))
        return {"model.npy": buffer.getvalue()}


class TestTransformers(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return TransformersFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {
            "config.json": json.dumps({"model_type": "bert", "architectures": ["BertModel"]}).encode(),
            "tokenizer.json": json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).encode(),
            "README.md": b"---\nlicense: mit\n---\n",
        }


class TestSentenceTransformers(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return SentenceTransformersFormat()

    def make_files(self) -> Mapping[str, bytes]:
        modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
        return {"modules.json": json.dumps(modules).encode(), "config.json": b'{"model_type": "bert"}'}


class TestPeft(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return PeftFormat()

    def make_files(self) -> Mapping[str, bytes]:
        return {"adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "a/b"}'}


class TestDiffusers(FormatContract):
    by_content = False

    def make_format(self) -> Format:
        return DiffusersFormat()

    def make_files(self) -> Mapping[str, bytes]:
        index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
        return {"model_index.json": json.dumps(index).encode(), "unet/config.json": b'{"_class_name": "UNet2DModel"}'}
