"""Curves as points of SVG paths: what a template draws, worked out where it can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.spec.changes import Histogram

WIDTH, HEIGHT = 240, 72


@dataclass(frozen=True, slots=True)
class Plot:
    """A histogram before and after.

    Args:
        group: what it is of.
        low, high: the ends of the axis, as text.
        old, new: the outlines, as ``d`` of SVG paths; empty where there is nothing.
        told: what it shows, in words, for those who do not see it.
    """

    group: str
    low: str
    high: str
    old: str
    new: str
    told: str


def plot(histogram: Histogram, group: str) -> Plot:
    """A histogram as outlines.

    Counts are drawn as their square roots: weights crowd around zero, and the tails are where they differ.
    """
    top = max((*histogram.old, *histogram.new), default=0)
    low, high = f"{histogram.low:.3g}", f"{histogram.high:.3g}"
    told = f"Elements of {group} from {low} to {high}: {sum(histogram.old):,} before, {sum(histogram.new):,} after"
    return Plot(group, low, high, outline(histogram.old, top), outline(histogram.new, top), told)


def outline(counts: Sequence[int], top: int) -> str:
    """The outline of bins of equal width as ``d`` of an SVG path, from the left foot to the right one.

    >>> outline((1, 4), 4)
    'M0 72 L0 36.0 L120.0 36.0 L120.0 0.0 L240.0 0.0 L240 72'
    """
    if not counts or top <= 0 or not any(counts):
        return ""
    step = WIDTH / len(counts)
    points = [f"M0 {HEIGHT}"]
    for at, count in enumerate(counts):
        y = f"{HEIGHT * (1 - (count / top) ** 0.5):.1f}"
        points += [f"L{at * step:.1f} {y}" if at else f"L0 {y}", f"L{(at + 1) * step:.1f} {y}"]
    return " ".join([*points, f"L{WIDTH} {HEIGHT}"])
