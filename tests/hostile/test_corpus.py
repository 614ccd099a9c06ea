"""All hostile samples and their honest twins as one corpus: nothing hostile is safe, nothing honest is not, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date

import pytest
from bounds import HANG
from hostile_corpus import Sample, benign, samples

from assay.policy.deciding import decide
from assay.policy.policy import DEFAULT
from assay.service.audit import audit
from assay.spec.report import Verdict
from assay.trees import Tree
from assay.wiring.auditing import auditing


def verdict(sample: Sample) -> Verdict:
    started = time.process_time()
    report = audit(Tree.of(dict(sample.files)), auditing())
    assert time.process_time() - started < HANG, sample.name
    return decide(report, [DEFAULT], subject=None, today=date(2026, 1, 1)).verdict


@pytest.mark.parametrize("kind", sorted({sample.kind for sample in samples()}))
def test_no_hostile_sample_of_a_class_is_safe(kind: str) -> None:
    assert [sample.name for sample in samples() if sample.kind == kind and verdict(sample) is Verdict.SAFE] == []


def test_every_honest_twin_is_safe() -> None:
    assert [sample.name for sample in benign() if verdict(sample) is not Verdict.SAFE] == []


@pytest.mark.parametrize("source", [samples, benign])
def test_names_are_unique(source: Callable[[], Iterator[Sample]]) -> None:
    names = [sample.name for sample in source()]
    assert len(names) == len(set(names))
