"""Values as a reader sees them."""

from __future__ import annotations

import pytest
from comparisons import item

from assay.pages.views import transition
from assay.spec.changes import Area


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (1.1, 1.2000000000000002, "1.1 → 1.2"),
        ([0.1, 0.30000000000000004], [0.1, 0.4], "[0.1, 0.3] → [0.1, 0.4]"),
        ({"mean": 1 / 3}, {"mean": 2 / 3}, '{"mean": 0.333333} → {"mean": 0.666667}'),
        (0.1, 0.1000000001, "0.1 → 0.1000000001"),
        (1e-12, 1e-5, "1e-12 → 1e-05"),
        (float("nan"), 1.0, "NaN → 1.0"),
    ],
)
def test_floats_have_six_figures_and_all_where_fewer_would_hide_what_differs(old, new, shown: str) -> None:
    assert transition(item(Area.CONFIG, "config.json: x", old, new)) == shown


def test_two_values_that_look_alike_are_left_to_the_words() -> None:
    assert transition(item(Area.TOKENIZER, "vocab.txt", 600, 600, text="1 token added")) == ""
    assert transition(item(Area.TOKENIZER, "vocab.txt", 600, 600)) == "600 → 600"
