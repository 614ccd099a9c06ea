"""What installers are configured to do, and what their complaints mean, in one sentence."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence

from assay.errors import CouldNot

_PLACES = ("index-url", "extra-index-url", "find-links", "no-index")
_UV = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE")
_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|Connection refused|name resolution|Name or service not known|"
    r"Max retries exceeded|Network is unreachable|Could not connect|error sending request|dns error|"
    r"Failed to fetch|client error \(Connect\)|ProxyError|CERTIFICATE_VERIFY_FAILED|connection error",
    re.IGNORECASE,
)
_PIP_MISSING = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([^\s(]+)")
_PIP_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_UV_MISSING = re.compile(r"Because (\S+) was not found in the package registry")
_UV_NO_VERSION = re.compile(r"there (?:is|are) no versions? of (\S+)")
_UV_NO_WHEEL = re.compile(r"(\S+) has no (?:usable )?wheels|no wheels with a matching")
_CLASH = re.compile(r"ResolutionImpossible|conflicting dependencies|requirements are unsatisfiable", re.IGNORECASE)


def pip_is_configured(pip: Sequence[str]) -> bool:
    """Whether pip is told where packages are, by a file or by the environment."""
    if any(os.environ.get(f"PIP_{place.upper().replace('-', '_')}") for place in _PLACES):
        return True
    try:
        done = subprocess.run(  # noqa: S603 - our own pip, with fixed arguments
            [*pip, "config", "list"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return any(line.partition("=")[0].endswith(f".{place}") for line in done.stdout.splitlines() for place in _PLACES)


def uv_is_configured() -> bool:
    """Whether uv is told where packages are by the environment."""
    return any(os.environ.get(name) for name in _UV)


def explain(builder: str, lines: Sequence[str], requirements: Sequence[str]) -> CouldNot:
    """The error for an installation that failed.

    Args:
        builder: ``pip`` or ``uv``.
        lines: everything it said.
        requirements: what it was asked for.
    """
    text = "\n".join(lines)
    asked = {one.partition("==")[0].partition("[")[0].lower(): one for one in requirements}
    if _NETWORK.search(text):
        return _failed(
            "network-unreachable",
            "the package index cannot be reached",
            "--index-url names another index; --environment rehearses in an environment that you have",
        )
    if "No space left on device" in text:
        return _failed("store-full", "the disk is full", "free some space, then run it again")
    if _CLASH.search(text) and not _missing(text):
        return _failed(
            "requirements-clash",
            f"the requirements contradict each other: {_last(lines, 'depends on', 'Because')}",
            "the model's recorded versions and what Assay's loaders need must fit together",
        )
    named = _missing(text)
    if named:
        name = named.partition("==")[0].lower()
        versions = _PIP_VERSIONS.search(text)
        known = versions[1] if versions and versions[1] != "none" else ""
        what = f"no index has {asked.get(name, named)} as a wheel for this Python and machine"
        return _failed(
            "requirement-missing",
            what + (f"; it has {', '.join(known.split(', ')[-3:])}" if known else ""),
            "--index-url names another index; --python another Python; --from-source lets packages be built",
        )
    return _failed("environment-failed", f"{builder} failed: {_last(lines, 'ERROR', 'error')}", None)


def _missing(text: str) -> str:
    found = _PIP_MISSING.search(text) or _UV_MISSING.search(text) or _UV_NO_VERSION.search(text)
    found = found or _UV_NO_WHEEL.search(text)
    return (found[1] or "").rstrip(",.;") if found else ""


def _last(lines: Sequence[str], *words: str) -> str:
    """The last line that holds one of *words*, else the last one."""
    said = [line.strip() for line in lines if line.strip()]
    chosen = [line for line in said if any(word in line for word in words)] or said or ["it said nothing"]
    return chosen[-1][:300]


def _failed(code: str, message: str, hint: str | None) -> CouldNot:
    return CouldNot(f"the environment cannot be built: {message}", code=code, hint=hint)
