"""What every audit of this process is done with: all formats and all auditors."""

from __future__ import annotations

from functools import cache

from assay.audit.archives import ArchivesAuditor, expand
from assay.audit.files import FilesAuditor
from assay.audit.names import NamesAuditor
from assay.audit.polyglots import PolyglotsAuditor
from assay.audit.ruleset import ruleset
from assay.audit.secrets import SecretsAuditor
from assay.audit.settings import SettingsAuditor
from assay.formats.registry import all_formats
from assay.ports.audit import Auditor
from assay.service.audit import Auditing

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
