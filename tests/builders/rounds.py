"""How often tests kill processes: few times in CI, many by hand."""

from __future__ import annotations

import os


def kills(few: int) -> int:
    """As many as ASSAY_KILLS says, else *few*: what a test proves does not depend on it, how much it tries does."""
    return int(os.environ.get("ASSAY_KILLS") or few)
