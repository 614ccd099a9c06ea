"""Numbers as people read them: bytes, counts, shares."""

from __future__ import annotations

import math

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def size(count: int) -> str:
    """Bytes in decimal units, three figures.

    >>> size(90868376), size(512), size(4_000_000_000)
    ('90.9 MB', '512 B', '4.00 GB')
    """
    return f"{_scaled(count)}B" if count >= 1000 else f"{count} B"


def number(count: int) -> str:
    """A count in three figures.

    >>> number(22713216), number(1_543_000_000), number(42)
    ('22.7 M', '1.54 G', '42')
    """
    return _scaled(count).rstrip() if count >= 1000 else str(count)


def _scaled(count: int) -> str:
    for factor, suffix in _SUFFIXES:
        if count >= factor:
            value = count / factor
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {suffix}"
    return str(count)


def plural(count: int, noun: str) -> str:
    """A count and its noun.

    >>> plural(1, "file"), plural(3, "file"), plural(0, "entry"), plural(2, "layer")
    ('1 file', '3 files', '0 entries', '2 layers')
    """
    if count == 1:
        return f"1 {noun}"
    ends_in_y = noun.endswith("y") and noun[-2:-1] not in "aeiou"
    return f"{count:,} {noun[:-1]}ies" if ends_in_y else f"{count:,} {noun}s"


def percent(share: float) -> str:
    """A share as a person says it: whole numbers, more exact only where they are small.

    >>> percent(0.0612), percent(0.137), percent(0.0143), percent(0.00042), percent(0.000004), percent(1.53)
    ('6 %', '14 %', '1.4 %', '0.042 %', 'less than 0.001 %', '153 %')
    >>> percent(0.0), percent(math.inf)
    ('0 %', 'beyond measure')
    """
    if not math.isfinite(share):
        return "beyond measure"
    hundreds = abs(share) * 100
    if hundreds == 0:
        return "0 %"
    if hundreds < 0.001:
        return "less than 0.001 %"
    if hundreds >= 1.95:
        return f"{hundreds:,.0f} %"
    digits = 1 - math.floor(math.log10(hundreds))
    return f"{hundreds:.{digits}f}".rstrip("0").rstrip(".") + " %"


def figure(value: float) -> str:
    """A measured number in up to four figures.

    >>> figure(0.91), figure(12345.678), figure(1e-7), figure(3)
    ('0.91', '12350', '1e-07', '3')
    """
    if math.isfinite(value) and abs(value) >= 1000:
        return f"{float(f'{value:.4g}'):.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4g}"
