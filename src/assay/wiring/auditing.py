"""Putting the gates together: auditors, the policies that hold here, and the rules for moving an alias."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import InvalidInput, NotFound
from assay.later import later
from assay.policy.policy import DEFAULT, PRESETS, Policy
from assay.policy.reading import read_policy
from assay.policy.trust import NO_TRUST, Trust
from assay.service.audit import Auditing
from assay.service.gate import Guard
from assay.settings import Settings, expanded
from assay.wiring.promoting import promoting_of
from assay.wiring.signing import judge_signed

if TYPE_CHECKING:
    from assay.wiring import auditors, buckets
else:
    auditors = later("assay.wiring.auditors")
    buckets = later("assay.wiring.buckets")

REGISTRY_POLICY = "policy.toml"
"""File in a home whose rules hold for everybody who uses it."""
MAX_POLICY = 4 << 20


def guard_of(settings: Settings, *, warn: Callable[[str], None] = lambda _: None) -> Guard:
    """What the gates of this process judge with.

    Args:
        settings: name the policy; the home may have one of its own.
        warn: hears of what a gate lets through although it is not safe.

    Raises:
        NotFound: there is no such policy (code ``policy-not-found``).
        InvalidInput: a policy cannot be read or says what no policy can say (code ``bad-policy``).
    """
    promoting = promoting_of(settings, trusted=lambda: _trusted(settings))
    return Guard(auditing, policies_of(settings), lambda: datetime.now(UTC).date(), warn, judge_signed, promoting)


def policies_of(settings: Settings) -> tuple[Policy, ...]:
    """The policies that hold: the one that was chosen, and the registry's; the strictest word of them counts.

    Raises:
        As ``guard_of``.
    """
    if settings.bucket is not None:
        buckets.refresh(settings)
    chosen = () if settings.policy is None else (named_policy(settings.policy),)
    return (*chosen, *_registry_policy(settings)) or (DEFAULT,)


def named_policy(text: str) -> Policy:
    """A policy by the name of a built-in one, or by its file.

    Raises:
        As ``guard_of``.
    """
    if text in PRESETS:
        return PRESETS[text]
    file = expanded(text)
    if not file.is_file():
        raise NotFound(
            f"no policy {text}: expected {', '.join(PRESETS)} or a file",
            code="policy-not-found",
            hint="docs/spec/policy.md shows what such a file holds",
        )
    return _read(file)


def _registry_policy(settings: Settings) -> tuple[Policy, ...]:
    file = settings.home / REGISTRY_POLICY
    return (_read(file),) if lexists(file) else ()


def auditing() -> Auditing:
    """What every audit of this process is done with."""
    return auditors.auditing()


def _trusted(settings: Settings) -> Trust:
    """Whom the registry trusts; who only chose a policy cannot add to it."""
    return next((policy.trust for policy in _registry_policy(settings)), NO_TRUST)


def _read(file: Path) -> Policy:
    try:
        # A folder, a link to nothing, a pipe: somebody meant to put a policy there, so it must not count as none.
        if file.exists() and not file.is_file():
            raise OSError("it is not a file")  # noqa: TRY301 - told as any other
        if file.stat().st_size > MAX_POLICY:
            raise InvalidInput(f"policy {file} has more than {MAX_POLICY:,} bytes", code="bad-policy")
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"policy {file} cannot be read: {error}", code="bad-policy") from error
    return read_policy(text, name=str(file))
