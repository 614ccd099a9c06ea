"""Names of tensors: one spelling for what frameworks spell differently, and rules that map many names at once."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

Parts = tuple[str, ...]

_SEPARATORS = re.compile(r"[./;]+|__|::")
_OUTPUT = re.compile(r":\d+$")
_COUNTERS = re.compile(r"_+\d+(?![0-9A-Za-z])")
_NOISE = frozenset({"", "ATTRIBUTES", "VARIABLE_VALUE", "ReadVariableOp", "_orig_mod"})

_KERAS = "model_weights"
"""Where a Keras model in HDF5 keeps its layers."""

_WORDS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "embeddings": "embeddings",
    "LayerNorm": "layer_norm",
    "layernorm": "layer_norm",
}
"""What Keras, TensorFlow and JAX call what PyTorch calls otherwise."""

_GGUF = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's names (gguf.constants.TENSOR_NAMES) for the parts of a llama-like model as transformers calls them."""

_GGUF_NAME = re.compile(r"^(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)$")

MAX_RULES = 64
"""Rules found in the data; a model has a handful."""

_CANDIDATES = 8
"""Partners one name votes for: more of them say nothing."""


def canonical(name: str) -> Parts:
    """A name in parts, spelt one way: ``a/dense/kernel:0`` and ``a.dense.weight`` are the same."""
    parts = _SEPARATORS.split(_OUTPUT.sub("", name))
    if parts[0] == _KERAS:
        parts = _keras(parts[1:])
    return tuple(_WORDS.get(part, part) for part in parts if part not in _NOISE)


def _keras(parts: list[str]) -> list[str]:
    """Keras names the layer twice in HDF5, with scopes between: ``conv/sequential/conv/bias``, ``conv/conv_1/bias``."""
    if len(parts) < 3:
        return parts
    again = [at for at, part in enumerate(parts[:-1]) if part == parts[0]]
    if again[-1:] > [0]:
        return parts[again[-1] :]
    return [parts[0], *parts[2:]] if parts[1].startswith(f"{parts[0]}_") else parts


def from_gguf(name: str) -> str | None:
    """The name transformers gives to a GGUF tensor of a llama-like model; None for others."""
    found = _GGUF_NAME.match(name)
    if found is None or found[2] not in _GGUF:
        return None
    layer = f"model.layers.{found[1]}." if found[1] is not None else ""
    return f"{layer}{_GGUF[found[2]]}.{found[3]}"


def stem(name: str) -> str:
    """A name without the counters that tools add (``dense_3``, ``const_fold_opt__210``); indices of layers stay."""
    return _COUNTERS.sub("", name)


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts 2 before 10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"([0-9]{1,18})", name) if part)


def prefix_rules(
    old: Sequence[Parts], new: Sequence[Parts], fits: Callable[[int, int], bool]
) -> Iterator[list[tuple[int, int]]]:
    """Pairs of indices, rule by rule: names that are equal once one prefix is exchanged for another.

    A rule needs two names at least, unless one of the two prefixes is empty, and must not bring together more pairs
    that do not fit than pairs that do. The rule that maps most names comes first.

    Args:
        old, new: canonical names without a partner.
        fits: whether two of them, by index, can be partners at all.
    """
    left_old, left_new = dict(enumerate(old)), dict(enumerate(new))
    for _ in range(MAX_RULES):
        best = _best_rule(left_old, left_new, fits)
        if best is None:
            return
        yield best
        for one, other in best:
            del left_old[one], left_new[other]


def _best_rule(
    old: dict[int, Parts], new: dict[int, Parts], fits: Callable[[int, int], bool]
) -> list[tuple[int, int]] | None:
    by_suffix: defaultdict[Parts, list[int]] = defaultdict(list)
    for index, parts in old.items():
        for at in range(len(parts)):
            by_suffix[parts[at:]].append(index)
    votes: Counter[tuple[Parts, Parts]] = Counter()
    for parts in new.values():
        for at in range(len(parts)):
            near = by_suffix.get(parts[at:])
            if near:
                for index in near[:_CANDIDATES]:
                    before = old[index]
                    votes[before[: len(before) - len(parts) + at], parts[:at]] += 1
                break
    best: list[tuple[int, int]] = []
    names = {parts: index for index, parts in new.items()}
    for (dropped, added), count in votes.most_common(_CANDIDATES):
        if count <= len(best):
            break
        found = _apply(old, names, dropped, added, fits)
        if len(found) > max(len(best), 1 if dropped and added else 0):
            best = found
    return best or None


def _apply(
    old: dict[int, Parts], names: dict[Parts, int], dropped: Parts, added: Parts, fits: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    found, misfits = [], 0
    for index, parts in old.items():
        if parts[: len(dropped)] != dropped:
            continue
        partner = names.get(added + parts[len(dropped) :])
        if partner is None:
            continue
        if fits(index, partner):
            found.append((index, partner))
        else:
            misfits += 1
    return found if len(found) > misfits else []
