"""Putting an audit together: formats, auditors, rules, and the policies that hold here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from assay.audit.archives import ArchivesAuditor, expand
from assay.audit.files import FilesAuditor
from assay.audit.names import NamesAuditor
from assay.audit.polyglots import PolyglotsAuditor
from assay.audit.ruleset import ruleset
from assay.audit.secrets import SecretsAuditor
from assay.audit.settings import SettingsAuditor
from assay.errors import InvalidInput, NotFound
from assay.formats.registry import all_formats
from assay.policy.policy import DEFAULT, PRESETS, Policy
from assay.policy.reading import read_policy
from assay.ports.audit import Auditor
from assay.service.audit import Auditing
from assay.service.gate import Guard
from assay.settings import Settings
from assay.wiring.signing import judge_signed

REGISTRY_POLICY = "policy.toml"
"""File in a home whose rules hold for everybody who uses it."""
MAX_POLICY = 4 << 20

_AUDITORS: tuple[type[Auditor], ...] = (
    NamesAuditor,
    PolyglotsAuditor,
    ArchivesAuditor,
    FilesAuditor,
    SettingsAuditor,
    SecretsAuditor,
)


@cache
def auditing() -> Auditing:
    """What every audit of this process is done with."""
    return Auditing(all_formats(), tuple(kind() for kind in _AUDITORS), expand, ruleset())


def guard_of(settings: Settings, *, warn: Callable[[str], None] = lambda _: None) -> Guard:
    """What the gates of this process judge with.

    Args:
        settings: name the policy; the home may have one of its own.
        warn: hears of what a gate lets through although it is not safe.

    Raises:
        NotFound: there is no such policy (code ``policy-not-found``).
        InvalidInput: a policy cannot be read or says what no policy can say (code ``bad-policy``).
    """
    return Guard(auditing(), policies_of(settings), lambda: datetime.now(UTC).date(), warn, judge_signed)


def policies_of(settings: Settings) -> tuple[Policy, ...]:
    """The policies that hold: the one that was chosen, and the registry's; the strictest word of them counts.

    Raises:
        As ``guard_of``.
    """
    chosen = () if settings.policy is None else (named_policy(settings.policy),)
    file = settings.home / REGISTRY_POLICY
    found = (*chosen, _read(file)) if file.is_file() else chosen
    return found or (DEFAULT,)


def named_policy(text: str) -> Policy:
    """A policy by the name of a built-in one, or by its file.

    Raises:
        As ``guard_of``.
    """
    if text in PRESETS:
        return PRESETS[text]
    file = Path(text).expanduser()
    if not file.is_file():
        raise NotFound(
            f"no policy {text}: expected {', '.join(PRESETS)} or a file",
            code="policy-not-found",
            hint="docs/spec/policy.md shows what such a file holds",
        )
    return _read(file)


def _read(file: Path) -> Policy:
    try:
        if file.stat().st_size > MAX_POLICY:
            raise InvalidInput(f"policy {file} has more than {MAX_POLICY:,} bytes", code="bad-policy")
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"policy {file} cannot be read: {error}", code="bad-policy") from error
    return read_policy(text, name=str(file))
