"""Which version broke it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assay.api.given import PathLike, text_of, warn
from assay.errors import InvalidInput
from assay.service.bisect import Limit, search, search_recorded, span
from assay.settings import read_settings
from assay.spec.changes import Comparison
from assay.spec.records import Version
from assay.spec.reference import check_name
from assay.wiring.auditing import guard_of
from assay.wiring.bisecting import Explained, FunctionTest, Laying, explain
from assay.wiring.comparing import diff
from assay.wiring.places import open_registry


def bisect(
    name: str,
    *,
    good: int | str,
    bad: int | str,
    test: Callable[[Any], bool | None] | None = None,
    by_reference: bool = False,
    metric: str | None = None,
    dataset: str | None = None,
    threshold: float | None = None,
    drop: float | None = None,
    lower_is_better: bool = False,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Explained:
    """Find the version that broke it, by testing few of those between a good and a bad one.

    When the good version is the newer one, the version that mended it is looked for.

    Args:
        name: the model.
        good: number or alias of a version that is good; trusted.
        bad: of one that is bad; trusted.
        test: called with a folder that holds a private copy of a version's files (a ``Path``); true says that the
            version is good, false that it is bad, None that it cannot be tested. What it raises ends the search.
        by_reference: call *test* with ``NAME:N`` instead; nothing is copied then.
        metric: instead of a test, a recorded metric; nothing is run.
        dataset: the dataset it was measured on, where there are several.
        threshold: a value that is worse than this is bad.
        drop: a value that is worse than the good end's by more than this is bad.
        lower_is_better: less of the metric is better, although its name does not say so.
        policy: as for ``assay.load``; what it does not let out is skipped.
        home: the registry's folder.

    Returns:
        ``found.first`` is the first bad version (None when skipped versions hide it: ``found.candidates``),
        ``found.steps`` what was tested, ``comparison`` what changed from the version before.

    Raises:
        InvalidInput: neither or both of *test* and *metric* (code ``bisect-by-what``), the ends are one version (code
            ``same-version``), or the metric does not tell (codes ``metric-not-recorded``, ``ambiguous-dataset``,
            ``metric-undecided``).
        NotFound: there is no such model or version.
    """
    if (test is None) == (metric is None):
        raise InvalidInput("bisecting is by a test or by a metric: give one of the two", code="bisect-by-what")
    settings = read_settings(home=home, policy=policy)
    registry = open_registry(settings)
    within = span(registry, check_name(text_of("name", name)), str(good), str(bad))
    if metric is not None:
        lower = frozenset({metric} if lower_is_better else ())
        found = search_recorded(registry, within, metric, dataset=dataset, limit=Limit(threshold, drop, lower))
    else:
        assert test is not None
        laying = None if by_reference else Laying(registry, guard_of(settings, warn=warn))
        found = search(within, FunctionTest(test, laying))

    def compare(old: Version, new: Version) -> Comparison:
        return diff(old.reference, new.reference, settings)

    return explain(found, compare)
