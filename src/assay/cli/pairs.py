"""``KEY=VALUE`` as it is typed."""

from __future__ import annotations

import math

import click

from assay.errors import InvalidInput


def pairs_of(items: tuple[str, ...], what: str, wanted: str) -> list[tuple[str, str]]:
    """What was typed as ``KEY=VALUE``.

    Raises:
        UsageError: something was not.
    """
    pairs = []
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"{what} {item!r}: expected {wanted}")
        pairs.append((key.strip(), value.strip()))
    return pairs


def numbers_of(items: tuple[str, ...]) -> dict[str, float]:
    """Metrics as typed.

    Raises:
        UsageError: one is not ``KEY=NUMBER``.
        InvalidInput: one is not finite (code ``bad-metric``).
    """
    numbers = {}
    for key, value in pairs_of(items, "--metric", "KEY=NUMBER"):
        try:
            numbers[key] = float(value)
        except ValueError:
            raise click.UsageError(f"--metric {key}: expected a number, found {value!r}") from None
        if not math.isfinite(numbers[key]):
            raise InvalidInput(f"metric {key!r} is not a finite number: {value}", code="bad-metric")
    return numbers
