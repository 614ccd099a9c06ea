"""What a rule means and what to do about it, as data (``advice.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Advice:
    """Two sentences or three for people.

    Args:
        means: what the finding says about the artifact.
        do: what to do next.
    """

    means: str
    do: str


@cache
def advice(rule: str) -> Advice:
    """The advice for a rule: of all entries that match its id, the last; the table goes from general to special."""
    return [text for pattern, text in _table() if fnmatchcase(rule, pattern)][-1]


@cache
def _table() -> tuple[tuple[str, Advice], ...]:
    body = tomllib.loads(files("assay.audit").joinpath("advice.toml").read_text("utf-8"))
    return tuple((pattern, Advice(item["means"], item["do"])) for item in body["advice"] for pattern in item["rules"])
