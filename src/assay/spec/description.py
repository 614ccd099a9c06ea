"""What we understand about model files without running them.

A description is a statement about bytes, never part of their identity: it may get better in a later release without
renumbering anything. Fields are None or empty where the files do not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.spec.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a model's signature.

    Args:
        name: as the model calls it.
        dtype: as in ``TensorSpec``, or the format's own word (``string``, ``image``, ``sequence(float32)``).
        shape: per dimension a size, a symbolic name, or None for any size; None when the rank is not stated.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How text becomes token ids.

    Args:
        kind: ``wordpiece``, ``bpe``, ``unigram``, ``wordlevel``, ``sentencepiece-bpe`` …
        vocabulary_size: number of distinct tokens including the added ones.
        special_tokens: role (``unk_token``, ``eos_token`` …) to token text.
        chat_template: Jinja source, verbatim.
    """

    kind: str
    vocabulary_size: int | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """A named part of a model: a pipeline step, an estimator in an ensemble, a layer, a sub-model.

    Args:
        name: its name inside its parent (``tfidf``, ``unet``, ``layers.0``).
        kind: class or operator name (``sklearn.svm._classes.LinearSVC``, ``Conv2D``).
        hyperparameters: settings chosen by a person, JSON values only.
        fitted: what training left in it, as short text per attribute (``coef_``: ``float64[1, 7721]``).
        children: parts of the part.
    """

    name: str
    kind: str
    hyperparameters: Mapping[str, Json] = field(default_factory=dict)
    fitted: Mapping[str, str] = field(default_factory=dict)
    children: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class RunLink:
    """The training run a model came from.

    Args:
        system: ``mlflow``, ``huggingface-trainer``, ``wandb`` or the URI's scheme.
        run_id: the run's id there.
        uri: where to look, when stated.
        extra: other ids the system keeps (``model_id``, ``experiment_id``, ``global_step``).
    """

    system: str
    run_id: str | None = None
    uri: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One model (or model part) found in a tree, as one format understands it.

    Args:
        format: name of the format (``safetensors``, ``huggingface``).
        paths: entries this description covers, sorted. Entries read for it but better described by another
            description (a Hugging Face directory's weights) belong to that one.
        format_version: version of the byte layout.
        framework: library that made or runs it (``pytorch``, ``scikit-learn``, ``tensorflow`` …).
        framework_version: as recorded in the files.
        architecture: class or family name (``BertModel``, ``llama``, ``GradientBoostingClassifier``).
        task: what it does, in the hub's words where it has one (``text-classification``, ``token-classification``) and
            hyphenated like them elsewhere (``binary-classification``, ``regression``, ``survival-analysis``).
        tensors: every tensor; names are unique.
        parameter_count: number of trained numbers, where it differs from or cannot be had from ``tensors``. Shapes,
            indices, counters and masks are not trained (``TensorSpec.trained``); packed weights count as stored.
        inputs, outputs: the signature.
        tokenizer: how text becomes ids.
        preprocessing: settings of image, audio or feature preprocessing.
        hyperparameters: architecture and training settings.
        metrics: evaluation results recorded in the files.
        components: pipeline steps, sub-models, layers.
        requirements: distributions needed to load it, PEP 508 (``scikit-learn==1.9.1`` or just ``torch``).
        base_models: models it was derived from, as the files name them.
        languages, licenses: as the model card says.
        run: link to the training run.
        metadata: the file's own key-value metadata and counts worth showing (``opsets``, ``ops``, ``trees``).
        findings: what was odd, incomplete or hostile.
        globals: every ``module.name`` its pickles use; what loads them may resolve these and no others. Not in records.
        permitted: classes beyond the table, by ``module.name``, that a policy lets pickles name. Not in records.
    """

    format: str
    paths: tuple[str, ...]
    format_version: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    architecture: str | None = None
    task: str | None = None
    tensors: tuple[TensorSpec, ...] = ()
    parameter_count: int | None = None
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    tokenizer: Tokenizer | None = None
    preprocessing: Mapping[str, Json] = field(default_factory=dict)
    hyperparameters: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    components: tuple[Component, ...] = ()
    requirements: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    run: RunLink | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    globals: tuple[str, ...] = ()
    permitted: frozenset[str] = frozenset()

    @property
    def parameters(self) -> int | None:
        """Number of trained numbers: as stated, else the sum over the tensors that may be trained, else None."""
        if self.parameter_count is not None:
            return self.parameter_count
        return sum(tensor.size for tensor in self.tensors if tensor.trained) if self.tensors else None

    @property
    def dtypes(self) -> dict[str, int]:
        """Elements per dtype, most frequent first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.dtype] += tensor.size
        return dict(counts.most_common())

    @property
    def complete(self) -> bool:
        """Whether everything was read: no finding says that something could not be."""
        return all(finding.severity is not Severity.INCOMPLETE for finding in self.findings)
