"""One folder of a Hugging Face style repository: its side files, each read at most once, and what was odd about them.

Which names are side files is decided here; weights are never among them: the formats of their bytes describe those.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from posixpath import dirname

from assay.containers.documents import MAX_JSON, read_json
from assay.errors import BadFormat
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

MAX_TEXT_FILE = 64 << 20
"""Bytes of a text file that are read: vocabularies and merges of the largest tokenizers take 10 million."""
MAX_VALUES = 4_000_000
"""Values of a JSON file; the largest tokenizers have two million."""
MAX_SHOWN_WEIGHTS = 100

_SIDE_FILES = frozenset(
    "config.json generation_config.json adapter_config.json model_index.json scheduler_config.json modules.json "
    "config_sentence_transformers.json data_config.json router_config.json "
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json vocab.txt merges.txt "
    "tokenizer.model spiece.model sentencepiece.bpe.model sentencepiece.model spm.model source.spm target.spm "
    "chat_template.jinja chat_template.json preprocessor_config.json processor_config.json "
    "video_preprocessor_config.json feature_extractor_config.json image_processor_config.json "
    "README.md trainer_state.json all_results.json eval_results.json train_results.json".split()
)
_TRANSFORMER_SETTINGS = re.compile(r"sentence_[a-z-]{1,20}_config\.json")
_WEIGHTS = re.compile(
    r"(?!training_args|optimizer|scheduler|rng_state|scaler).*\.(safetensors|bin|pt|pth|ckpt|gguf|onnx|h5|keras|msgpack|ot|index\.json)",
    re.DOTALL,
)


class Folder:
    """The files directly in one folder of a tree.

    Args:
        tree: where they lie.
        root: the folder, empty for the tree's top.

    Attributes:
        findings: rules ``huggingface-bad-json`` and ``huggingface-duplicate-key``, and what callers add.
    """

    def __init__(self, tree: Tree, root: str) -> None:
        self.tree = tree
        self.root = root
        self.findings: list[Finding] = []
        self._objects: dict[str, Mapping[str, Json]] = {}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.path(name) in self.tree

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Base names of the files in the folder, sorted."""
        prefix = f"{self.root}/" if self.root else ""
        # Paths are sorted: those of a folder lie together, so that a thousand folders cost no thousand passes.
        begin = bisect_left(self.tree.paths, prefix)
        end = bisect_left(self.tree.paths, f"{self.root}0") if self.root else len(self.tree.paths)
        return tuple(path[len(prefix) :] for path in self.tree.paths[begin:end] if "/" not in path[len(prefix) :])

    def path(self, name: str) -> str:
        """The entry path of a file of this folder."""
        return f"{self.root}/{name}" if self.root else name

    def sub(self, name: str) -> Folder:
        """A folder below this one, which reports into the same findings."""
        folder = Folder(self.tree, self.path(name))
        folder.findings = self.findings
        return folder

    def side_files(self) -> tuple[str, ...]:
        """Entry paths of the configuration, tokenizer and card files in this folder, sorted."""
        return tuple(
            self.path(name) for name in self.names if name in _SIDE_FILES or _TRANSFORMER_SETTINGS.fullmatch(name)
        )

    def weights(self) -> tuple[str, ...]:
        """Names of the weight files in this folder, by suffix: a hint for people, nothing is claimed."""
        return tuple(name for name in self.names if _WEIGHTS.fullmatch(name))[:MAX_SHOWN_WEIGHTS]

    def value(self, name: str, limit: int = MAX_JSON) -> Json:
        """The JSON value of a file; None, with a finding, when it cannot be read, and without one when it is absent."""
        if name not in self:
            return None
        path = self.path(name)
        try:
            document = read_json(self.tree.open(path), limit, max_values=MAX_VALUES)
        except BadFormat as error:
            self.report("bad-json", Severity.INCOMPLETE, error.message, name)
            return None
        if document.repeated:
            evidence = ", ".join(document.repeated[:5])[:200]
            self.report("duplicate-key", Severity.MISLEAD, "keys occur more than once", name, evidence)
        return document.value

    def object(self, name: str, limit: int = MAX_JSON) -> Mapping[str, Json]:
        """The JSON object of a file, read once; empty when absent or not an object (which is a finding)."""
        found = self._objects.get(name)
        if found is None:
            value = self.value(name, limit)
            found = value if isinstance(value, Mapping) else {}
            if value is not None and not isinstance(value, Mapping):
                self.report("bad-json", Severity.INCOMPLETE, "expected a JSON object", name)
            self._objects[name] = found
        return found

    def text(self, name: str, limit: int = MAX_TEXT_FILE) -> str | None:
        """A file's text, at most *limit* bytes of it (more is a finding); None when absent."""
        if name not in self:
            return None
        window = self.tree.open(self.path(name))
        if window.size > limit:
            self.report("long-file", Severity.INCOMPLETE, f"only the first {limit:,} bytes were read", name)
        return window.read(0, limit).decode("utf-8", "replace")

    def report(
        self, what: str, severity: Severity, message: str, name: str = "", evidence: str = "", effect: str = ""
    ) -> None:
        """Add a finding of rule ``huggingface-<what>`` about a file of this folder."""
        path = self.path(name) if name else self.root
        self.findings.append(Finding(f"huggingface-{what}", severity, message, path, None, evidence[:200], effect))

    def source_size(self) -> int:
        """Bytes of Python source in this folder and below it."""
        return sum(self.tree.size(path) for path in self.tree.under(self.root) if path.endswith(".py"))


def folders_of(tree: Tree, marker: str) -> Sequence[str]:
    """Folders that hold a file called *marker* which begins as JSON."""
    return [
        dirname(path)
        for path in tree.named(marker)
        if tree.head(path).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    ]
