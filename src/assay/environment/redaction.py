"""Taking secrets and people out of text: tokens, credentials in URLs, user names, absolute paths.

Two nets, one behind the other. What is *named* like a secret (``--api-key``, ``password=``) loses its value whatever it
looks like. What *looks* like a secret (known token shapes, long mixed runs of characters) goes wherever it stands.
Losing a harmless word is a small price; a false alarm is preferred to a leak.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from assay.audit.secret_names import entropy, is_secret_name

REDACTED = "<redacted>"
MAX_ARGUMENTS = 200
MAX_ARGUMENT = 500

_PAIR = re.compile(r"(?P<name>[\w.\-\[\]'\"]{1,80}?)(?P<equals>\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;&]+)")
_URL_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")
_URL_QUERY = re.compile(r"(?P<url>[A-Za-z][A-Za-z0-9+.-]*://[^\s?#]*)[?#]\S*")
_BEARER = re.compile(r"\b(?:bearer|basic|token|digest)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_SHAPES = re.compile(
    r"(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA|AIPA|ABIA|ACCA)[A-Z0-9]{12,}"  # AWS
    r"|hf_[A-Za-z0-9]{8,}|api_org_[A-Za-z0-9]{8,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{8,}|github_pat_\w{8,}"  # GitHub
    r"|gl(?:pat|dt|rt|ptt|ft|soat|agent|cbt|imt)-[\w.-]{8,}"  # GitLab
    r"|sk-[\w-]{8,}|sk_(?:live|test)_\w{8,}|[pr]k_(?:live|test)_\w{8,}"  # OpenAI, Anthropic, Stripe
    r"|xox[abeoprs]-[\w-]{6,}|xapp-[\w-]{6,}"  # Slack
    r"|pypi-[\w-]{8,}|npm_\w{8,}|dckr_pat_[\w-]{8,}"  # package and image registries
    r"|AIza[\w-]{10,}|ya29\.[\w-]+|1//[\w-]{10,}"  # Google
    r"|eyJ[\w-]{4,}\.[\w-]*\.?[\w.-]*"  # JSON web tokens
    r"|dapi[a-f0-9]{16,}|nvapi-[\w-]{8,}|r8_\w{8,}|wandb_\w{8,}|lsv2_\w{8,}|glsa_\w{8,}"
    r"|SG\.[\w-]{8,}|AC[a-f0-9]{32}|do[opr]_v1_[a-f0-9]{8,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{8,}"
    r"|-----BEGIN[^-]*PRIVATE KEY-----.*"
    r")",
    re.DOTALL,
)
_RUN = re.compile(r"[A-Za-z0-9+/_=~-]{20,}")
_HEX = re.compile(r"[0-9a-fA-F-]+")
_GENERIC_USERS = frozenset("root user admin runner ubuntu debian nobody app".split())


def redact_text(text: str, *, home: Path | None = None, user: str | None = None, base: Path | None = None) -> str:
    """*text* without secrets, user names and absolute paths.

    Args:
        text: anything.
        home: the user's home folder; the actual one when None.
        user: the user's name; the actual one when None.
        base: paths below it become relative; the current folder when None.
    """
    text = _URL_LOGIN.sub(r"\g<scheme>", text)
    text = _URL_QUERY.sub(r"\g<url>", text)
    text = _BEARER.sub(REDACTED, text)
    text = _SHAPES.sub(REDACTED, text)
    text = _PAIR.sub(_pair, text)
    text = _RUN.sub(_run, text)
    return _without_places(text, home=home, user=user, base=base)


def redact_arguments(
    arguments: Sequence[str], *, home: Path | None = None, user: str | None = None, base: Path | None = None
) -> list[str]:
    """A command line without secrets, user names and absolute paths.

    The value of an option that is named like a secret goes, in every spelling: ``--token=x``, ``--token x``,
    ``token=x``, ``-ptoken:x``.
    """
    kept: list[str] = []
    hide_next = False
    for argument in list(arguments)[:MAX_ARGUMENTS]:
        name, equals, value = argument.partition("=")
        if hide_next and not (argument.startswith("-") and is_secret_name(argument.lstrip("-"))):
            kept.append(REDACTED)
            hide_next = False
            continue
        if equals and is_secret_name(name.lstrip("-")):
            shown = redact_text(name, home=home, user=user, base=base)
            kept.append(f"{shown}={REDACTED}" if value else argument)
            hide_next = False
            continue
        hide_next = argument.startswith("-") and not equals and is_secret_name(argument.lstrip("-"))
        kept.append(redact_text(argument[:MAX_ARGUMENT], home=home, user=user, base=base))
    return kept


def redact_url(url: str) -> str:
    """A URL without login, query and fragment; a path becomes nothing but its last part.

    >>> redact_url("https://me:pw@example.org/a/b.git?x=1")
    'https://example.org/a/b.git'
    """
    if "://" in url:
        url = _URL_QUERY.sub(r"\g<url>", _URL_LOGIN.sub(r"\g<scheme>", url))
        return REDACTED if url.startswith("file:") else redact_text(url)
    host, colon, path = url.partition(":")
    if colon and "/" not in host:  # the short form of ssh: user@host:path
        return redact_text(f"{host.rpartition('@')[2]}:{path}")
    return redact_text(Path(url).name)


def _pair(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"].lstrip("-")):
        return found[0]
    return f"{found['name']}{found['equals']}{REDACTED}"


def _run(found: re.Match[str]) -> str:
    """Long runs of characters that no person wrote: high entropy, digits and letters mixed."""
    text = found[0]
    if all(len(part) < 12 or part.isalpha() for part in re.split(r"[/_=~+-]", text)):
        return text  # words and numbers with something between them
    if _HEX.fullmatch(text):
        return REDACTED if len(text.replace("-", "")) >= 32 else text
    kinds = sum(any(test(character) for character in text) for test in (str.isdigit, str.islower, str.isupper))
    return REDACTED if kinds >= 2 and entropy(text) > 3.5 and any(map(str.isdigit, text)) else text


def _without_places(text: str, *, home: Path | None, user: str | None, base: Path | None) -> str:
    base = base if base is not None else Path.cwd()
    home = home if home is not None else Path.home()
    user = user if user is not None else user_name()
    for place, shown in ((str(base), "."), (str(home), "~")):
        if len(place) > 1:
            text = re.sub(rf"{re.escape(place)}(?=/|\\|$|[\s'\":,;=)])", shown, text)
    text = re.sub(r"(?<![\w.~/:])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":,;=()]+[/\\])*([^\s/\\'\":,;=()]*)", _base_name, text)
    text = re.sub(r"~[/\\](?:[^\s/\\'\":,;=()]+[/\\])*([^\s/\\'\":,;=()]*)", _base_name, text)
    if user and len(user) > 2 and user.lower() not in _GENERIC_USERS:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(user)}(?![A-Za-z0-9])", "<user>", text, flags=re.IGNORECASE)
    return text


def _base_name(found: re.Match[str]) -> str:
    return f"<path>/{found[1]}" if found[1] else "<path>"


def user_name() -> str:
    """The name of whoever runs this, empty when the system does not say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def secrets_in(texts: Iterable[str]) -> list[str]:
    """Those of *texts* that redaction would change; for tests and for saying that something was left out."""
    return [text for text in texts if redact_text(text) != text]
