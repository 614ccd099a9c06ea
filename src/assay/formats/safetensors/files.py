"""safetensors: single files, and several files under one index.

The header of each file is read and checked (``header``); this module finds the files that belong together,
holds an index against its shards, and says what names and metadata tell about the model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from posixpath import basename, dirname, normpath

from assay.containers.documents import plain, read_json
from assay.containers.guard import guarded
from assay.errors import AssayError, BadFormat
from assay.formats.safetensors.header import looks_like, read_header
from assay.spec.description import Description
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec
from assay.trees import Tree

MAX_INDEX = 64 << 20
"""Bytes of an index that are read; a tensor takes about a hundred."""
MAX_SHARDS = 10_000

_INDEX_NAME = re.compile(r".*\.safetensors\.index(\.[\w-]+)?\.json")
_FRAMEWORKS = {"pt": "pytorch", "tf": "tensorflow", "flax": "flax", "jax": "jax", "np": "numpy", "mlx": "mlx"}
_LORA = re.compile(r"(?:^|[._])lora_(A|B|down|up|embedding_A|embedding_B)(?:[._]|$)")
_QUANTIZED = {
    # how the companions of a quantized weight end, and which scheme calls them so; the first that is found counts
    ".g_idx": "gptq",
    ".qzeros": "gptq or awq",
    ".SCB": "bitsandbytes 8-bit",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes nf4",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes fp4",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "scaled weights",
    ".weight_scale_inv": "scaled weights",
    "_proj_blocks": "mxfp4",
}

_ENDINGS = tuple(_QUANTIZED)
_IMAGE_MODEL = ("model.diffusion_model.", "first_stage_model.")


class SafetensorsFormat:
    """Describes ``.safetensors`` files and ``*.safetensors.index.json`` with their shards."""

    name = "safetensors"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per index (index first, then the shards that are there) and per remaining file."""
        files = {path for path in tree if _is_file(tree, path)}
        groups: list[tuple[str, ...]] = []
        for path in tree:
            if not _INDEX_NAME.fullmatch(basename(path)) or b"{" not in tree.head(path)[:64]:
                continue
            shards = _index_shards(tree, path)
            mine = tuple(shard for shard in shards if shard in files)
            if mine or shards:
                groups.append((path, *mine))
                files.difference_update(mine)
        return [*groups, *((path,) for path in sorted(files))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Tensors with extents, the files' own metadata, and what disagrees.

        Raises:
            BadFormat: no header could be read.
        """
        with guarded("safetensors", paths[0]):
            if _INDEX_NAME.fullmatch(basename(paths[0])):
                return _describe_sharded(tree, paths)
            header = read_header(tree.open(paths[0]))
            return _describe(paths, header.tensors, header.metadata, header.findings, {})


def _is_file(tree: Tree, path: str) -> bool:
    head = tree.head(path)
    if not looks_like(head):
        # A header longer than allowed is still this format's to refuse, when the name says so too.
        return path.endswith(".safetensors") and head[8:9] == b"{"
    length = int.from_bytes(head[:8], "little")
    return 8 + length <= tree.size(path) or path.endswith(".safetensors")


def _index_shards(tree: Tree, path: str) -> tuple[str, ...]:
    """Entry paths the index names, inside its own folder only; empty when it is not an index."""
    try:
        weight_map = _weight_map(tree, path)
    except AssayError:
        return ()
    return tuple(sorted({shard for shard in map(_Inside(path), weight_map.values()) if shard}))


def _weight_map(tree: Tree, path: str) -> dict[str, str]:
    value = read_json(tree.open(path), MAX_INDEX).value
    weight_map = value.get("weight_map") if isinstance(value, Mapping) else None
    if not isinstance(weight_map, Mapping) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise BadFormat(f"{path}: expected a weight_map of tensor names to file names", path=path)
    return {name: shard for name, shard in weight_map.items() if isinstance(shard, str)}


class _Inside:
    """Turns a shard's name in an index into an entry path, or None when it leaves the index's folder."""

    def __init__(self, index: str) -> None:
        self.folder = dirname(index)

    def __call__(self, shard: str) -> str | None:
        clean = normpath(shard)
        if not shard or clean != shard or clean.startswith(("/", "../")) or clean in {".", ".."}:
            return None
        if any(character in shard for character in "\\:\0"):
            return None
        return f"{self.folder}/{clean}" if self.folder else clean


def _describe_sharded(tree: Tree, paths: tuple[str, ...]) -> Description:
    index = paths[0]
    document = read_json(tree.open(index), MAX_INDEX)
    weight_map = _weight_map(tree, index)
    findings = [
        Finding("safetensors-duplicate-key", Severity.MISLEAD, f"key {key!r:.120} occurs more than once", index)
        for key in document.repeated[:10]
    ]
    inside = _Inside(index)
    expected: dict[str, set[str]] = defaultdict(set)
    escaping = set()
    for tensor, shard in weight_map.items():
        target = inside(shard)
        if target is None:
            escaping.add(shard)
        else:
            expected[target].add(tensor)
    findings += [
        Finding("safetensors-path-escape", Severity.READ, "a shard's name leaves the folder", index, None, shard[:200])
        for shard in sorted(escaping)[:10]
    ]
    if len(expected) > MAX_SHARDS:
        raise BadFormat(f"{index}: {len(expected):,} shards, at most {MAX_SHARDS:,} are read", path=index)
    collected = _Shards(weight_map, inside)
    for shard in sorted(expected):
        if shard in tree:
            collected.add(tree, shard, expected[shard])
        else:
            message = f"shard {shard!r:.200} with {len(expected[shard])} tensors is not here"
            collected.findings.append(Finding("safetensors-missing-shard", Severity.INCOMPLETE, message, index))
    tensors = list(collected.tensors.values())
    findings += collected.findings
    value = document.value
    stated = value.get("metadata") if isinstance(value, Mapping) else None
    index_metadata: dict[str, Json] = {"shards": len(expected)}
    if isinstance(stated, Mapping):
        index_metadata["index"] = plain(stated)
        findings += _check_total(index, stated, tensors, complete=not findings)
    return _describe(paths, tensors, collected.metadata, findings, index_metadata)


class _Shards:
    """Tensors of the shards read so far, held against the index."""

    def __init__(self, weight_map: Mapping[str, str], inside: _Inside) -> None:
        self.weight_map = weight_map
        self.inside = inside
        self.tensors: dict[str, TensorSpec] = {}
        self.metadata: dict[str, str] = {}
        self.findings: list[Finding] = []

    def add(self, tree: Tree, shard: str, expected: Collection[str]) -> None:
        """Read one shard and report where it and the index disagree."""
        try:
            header = read_header(tree.open(shard))
        except BadFormat as error:
            self.findings.append(Finding("safetensors-bad-shard", Severity.INCOMPLETE, error.message, shard))
            return
        self.findings += header.findings
        self.metadata.update(header.metadata)
        unlisted, elsewhere, twice = [], [], []
        for spec in header.tensors:
            stated = self.weight_map.get(spec.name)
            if stated is None:
                unlisted.append(spec.name)
            elif self.inside(stated) != shard:
                elsewhere.append(spec.name)
            if spec.name in self.tensors:
                twice.append(spec.name)
            if spec.name not in self.tensors or spec.name in expected:
                self.tensors[spec.name] = spec
        missing = sorted(set(expected) - {spec.name for spec in header.tensors})
        self._report("missing-tensor", Severity.INCOMPLETE, "listed by the index are not in the shard", shard, missing)
        self._report("unlisted-tensor", Severity.MISLEAD, "of the shard are not in the index", shard, unlisted)
        self._report("wrong-shard", Severity.MISLEAD, "are in another shard than the index says", shard, elsewhere)
        self._report("duplicate-tensor", Severity.MISLEAD, "are in an earlier shard too", shard, twice)

    def _report(self, what: str, severity: Severity, text: str, shard: str, names: Sequence[str]) -> None:
        if names:
            evidence = ", ".join(names[:5])[:200]
            message = f"{len(names)} tensors {text}"
            self.findings.append(Finding(f"safetensors-{what}", severity, message, shard, None, evidence))


def _check_total(
    index: str, stated: Mapping[str, Json], tensors: Sequence[TensorSpec], *, complete: bool
) -> list[Finding]:
    total = stated.get("total_size")
    found = sum(spec.extent.length for spec in tensors if spec.extent)
    if not complete or not isinstance(total, (int, float)) or total == found:
        return []
    message = f"the index says {total:,} bytes, the shards hold {found:,}"
    # Tied weights are counted once per name by some writers, so this alone harms nobody.
    return [Finding("safetensors-total-size", Severity.NOTE, message, index)]


def _describe(
    paths: tuple[str, ...],
    tensors: Sequence[TensorSpec],
    file_metadata: Mapping[str, str],
    findings: Sequence[Finding],
    extra: Mapping[str, Json],
) -> Description:
    metadata: dict[str, Json] = dict(extra)
    shown = plain(file_metadata)
    metadata.update(shown if isinstance(shown, dict) else {})
    metadata.update(_naming(tensors))
    # Keys of single-file image models (ModelSpec) and of LoRA trainers (kohya: "ss_…").
    license_ = file_metadata.get("modelspec.license")
    base = file_metadata.get("ss_sd_model_name") or file_metadata.get("base_model")
    return Description(
        format="safetensors",
        paths=tuple(sorted(paths)),
        framework=_FRAMEWORKS.get(file_metadata.get("format", "").lower()),
        architecture=file_metadata.get("modelspec.architecture"),
        tensors=tuple(tensors),
        requirements=("safetensors",),
        base_models=(base,) if base else (),
        licenses=(license_,) if license_ else (),
        metadata=metadata,
        findings=tuple(findings),
    )


def _naming(tensors: Sequence[TensorSpec]) -> dict[str, Json]:
    """What the tensors' names tell: an adapter, a quantization, a single-file image model."""
    told: dict[str, Json] = {}
    ranks: set[int] = set()
    adapters = 0
    endings: set[str] = set()
    packed: set[str] = set()
    scaled: set[str] = set()
    image: set[str] = set()
    for spec in tensors:
        name = spec.name
        match = _LORA.search(name) if "lora_" in name else None
        if match:
            adapters += 1
            if match[1] in {"A", "down"} and spec.shape:
                ranks.add(spec.shape[0])
        if name.endswith(_ENDINGS):
            endings.update(ending for ending in _ENDINGS if name.endswith(ending))
        if name.endswith(".scales"):
            scaled.add(name.removesuffix(".scales"))
        elif spec.dtype == "uint32" and name.endswith(".weight"):
            packed.add(name.removesuffix(".weight"))
        elif name.startswith(_IMAGE_MODEL):
            image.add(name.split(".", 1)[0])
    if adapters:
        told.update(adapter="lora", adapter_tensors=adapters, adapter_ranks=sorted(ranks)[:16])
    schemes = [scheme for ending, scheme in _QUANTIZED.items() if ending in endings]
    if schemes or packed & scaled:
        told["quantization_names"] = schemes[0] if schemes else "mlx"
    if len(image) == len(_IMAGE_MODEL):
        told["layout"] = "single-file latent diffusion checkpoint"
    return told
