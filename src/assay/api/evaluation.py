"""What was measured of versions: recorded at any time, compared across versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from assay.api.given import PathLike, metrics_of, registry_of, text_of, version_of
from assay.service.evaluations import give, table
from assay.spec.evaluation import Evaluation
from assay.spec.json import Json


def evaluate(
    reference: str,
    metrics: Mapping[str, float],
    *,
    dataset: str | None = None,
    dataset_digest: str | None = None,
    note: str | None = None,
    run: str | None = None,
    home: PathLike | None = None,
) -> Evaluation:
    """Record what was measured of a version; earlier evaluations are kept, the latest on a dataset counts.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        metrics: name to number.
        dataset: the name of what it was measured on; metrics compare within one dataset.
        dataset_digest: identity of that data, ``sha256:<hex>``.
        note: free text.
        run: URI or id of the run that measured it.
        home: the registry's folder.

    Returns:
        What counts now; when the newest evaluation on that dataset said the same, that one.

    Raises:
        InvalidInput: it has not the form of an evaluation (codes ``bad-metric``, ``bad-dataset``, ``invalid-digest``).
        NotFound: there is no such version, or its bytes were purged or removed.
    """
    numbers = metrics_of(metrics)
    texts = {"dataset": dataset, "digest of the dataset": dataset_digest, "note": note, "run": run}
    for what, text in texts.items():
        if text is not None:
            text_of(what, text)
    registry = registry_of(home)
    return give(
        registry,
        version_of(registry, reference),
        numbers,
        dataset=dataset,
        dataset_digest=dataset_digest,
        note=note,
        run=run,
    ).evaluation


def metrics(name: str, *, lower_is_better: Collection[str] = (), home: PathLike | None = None) -> dict[str, Json]:
    """The metrics of all versions of a model, as ``assay show NAME --metrics --json`` prints them.

    Args:
        name: the model.
        lower_is_better: metrics of which less is better although their names do not say so.
        home: the registry's folder.

    Raises:
        NotFound: there is no such model.
    """
    return table(registry_of(home), text_of("name", name), lower=lower_is_better)
