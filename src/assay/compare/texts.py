"""Text files as unified diffs: code, templates, whatever is readable and has no structure that is known."""

from __future__ import annotations

from difflib import unified_diff

MAX_TEXT = 1 << 20
"""Bytes of a text that is compared line by line."""
MAX_LINES = 6_000
"""Lines of a text that is compared line by line: what differing costs grows with their product."""
MAX_DIFF = 120
"""Lines of a difference that are kept."""


def diff(old: str, new: str) -> str | None:
    """The unified difference of two texts, shortened; None when they are too long for that."""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MAX_LINES or max(len(old), len(new)) > MAX_TEXT:
        return None
    lines = list(unified_diff(before, after, "old", "new", lineterm="", n=2))
    kept = [line if len(line) <= 400 else f"{line[:400]}…" for line in lines[:MAX_DIFF]]
    if len(lines) > MAX_DIFF:
        kept.append(f"… {len(lines) - MAX_DIFF:,} more lines")
    return "\n".join(kept)


def readable(data: bytes) -> str | None:
    """The text that bytes are, or None when they are none."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
