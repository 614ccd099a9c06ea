"""Names, blocks and codes of GGUF: what its numbers mean.

Source: the GGUF specification (ggml, docs/gguf.md) and the public constants of the ``gguf`` Python package; the test
suite holds these tables against that package.
"""

from __future__ import annotations

from typing import NamedTuple


class TensorType(NamedTuple):
    """One ggml element type: its name here, elements per block, bytes per block."""

    name: str
    block: int
    nbytes: int


TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("float32", 1, 4),
    1: TensorType("float16", 1, 2),
    2: TensorType("q4_0", 32, 18),
    3: TensorType("q4_1", 32, 20),
    6: TensorType("q5_0", 32, 22),
    7: TensorType("q5_1", 32, 24),
    8: TensorType("q8_0", 32, 34),
    9: TensorType("q8_1", 32, 36),
    10: TensorType("q2_k", 256, 84),
    11: TensorType("q3_k", 256, 110),
    12: TensorType("q4_k", 256, 144),
    13: TensorType("q5_k", 256, 176),
    14: TensorType("q6_k", 256, 210),
    15: TensorType("q8_k", 256, 292),
    16: TensorType("iq2_xxs", 256, 66),
    17: TensorType("iq2_xs", 256, 74),
    18: TensorType("iq3_xxs", 256, 98),
    19: TensorType("iq1_s", 256, 50),
    20: TensorType("iq4_nl", 32, 18),
    21: TensorType("iq3_s", 256, 110),
    22: TensorType("iq2_s", 256, 82),
    23: TensorType("iq4_xs", 256, 136),
    24: TensorType("int8", 1, 1),
    25: TensorType("int16", 1, 2),
    26: TensorType("int32", 1, 4),
    27: TensorType("int64", 1, 8),
    28: TensorType("float64", 1, 8),
    29: TensorType("iq1_m", 256, 56),
    30: TensorType("bfloat16", 1, 2),
    # 31-33 and 36-38 were layouts of q4_0 and iq4_nl for particular processors, since withdrawn
    31: TensorType("q4_0_4_4", 32, 18),
    32: TensorType("q4_0_4_8", 32, 18),
    33: TensorType("q4_0_8_8", 32, 18),
    34: TensorType("tq1_0", 256, 54),
    35: TensorType("tq2_0", 256, 66),
    36: TensorType("iq4_nl_4_4", 32, 18),
    37: TensorType("iq4_nl_4_8", 32, 18),
    38: TensorType("iq4_nl_8_8", 32, 18),
    39: TensorType("mxfp4", 32, 17),
    40: TensorType("nvfp4", 64, 36),
    41: TensorType("q1_0", 128, 18),
}
"""ggml's element types by their number in a file."""

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    1024: "guessed",
}
"""What ``general.file_type`` says about most of a file's tensors."""

SCALARS: dict[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Metadata value types of a fixed size, as ``struct`` letters."""

SCALAR_NAMES: dict[int, str] = {
    0: "uint8",
    1: "int8",
    2: "uint16",
    3: "int16",
    4: "uint32",
    5: "int32",
    6: "float32",
    7: "bool",
    8: "string",
    9: "array",
    10: "uint64",
    11: "int64",
    12: "float64",
}
"""Metadata value types by name."""

STRING = 8
ARRAY = 9

TOKENIZERS: dict[str, str] = {
    "llama": "sentencepiece-bpe",
    "gpt2": "bpe",
    "bert": "wordpiece",
    "t5": "unigram",
    "rwkv": "rwkv",
    "plamo2": "plamo2",
    "gemma4": "bpe",
}
"""Tokenizer kinds by ``tokenizer.ggml.model``."""

SPECIAL_TOKENS: dict[str, str] = {
    # The misspelling is in the specification.
    "seperator": "sep_token",
    "separator": "sep_token",
    "unknown": "unk_token",
    "padding": "pad_token",
}
"""Roles of special tokens whose key differs from the name other tokenizers use."""
