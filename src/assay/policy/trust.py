"""Who may sign, and who must have: trust roots and required signers, as data and pure rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trust:
    """Trusted keys and requirements."""


NO_TRUST = Trust()
"""Nobody is trusted, and no signature is required."""


def parse_trust(table: Mapping[str, object]) -> Trust:  # noqa: ARG001 - filled in with the signing work
    """Read the ``[trust]`` tables of a policy."""
    return NO_TRUST
