"""What a person types to name a model, a version or an alias.

Grammar (names are OCI repository names, so that every reference also works against an OCI registry)::

    reference = [host "/"] name [":" label] ["@" digest]
    host      = a first component that holds "." or ":" + port, or is "localhost"
    name      = component *("/" component)
    component = [a-z0-9]+ *(("." / "_" / "__" / "-"+) [a-z0-9]+)
    label     = version / alias
    version   = [1-9][0-9]*                      never moves
    alias     = letter or "_", then up to 127 of letters, digits, "_", ".", "-"; moves by compare-and-swap
    digest    = "sha256:" 64 hex digits

No label means the newest version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.spec.digest import Digest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HOST = re.compile(r"(?:localhost|[A-Za-z0-9.-]+\.[A-Za-z0-9-]+|[A-Za-z0-9.-]+(?=:))(?::[0-9]{1,5})?", re.ASCII)
MAX_NAME = 255


def check_name(name: str) -> str:
    """Return *name* when it can name a model.

    Raises:
        InvalidInput: it cannot; the message says what a name looks like.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        suggestion = re.sub(r"[^a-z0-9/]+", "-", name.lower()).strip("-/")
        hint = f"try {suggestion}" if suggestion and suggestion != name and _NAME.fullmatch(suggestion) else None
        model, colon, _ = name.partition(":")
        if is_path(name):
            hint = "this takes the name of a model, not a path"
        elif colon and _NAME.fullmatch(model):
            hint = f"a model is named without a version or alias: {model}"
        raise InvalidInput(
            f"not a model name: {name!r:.120}; expected lower-case words such as fraud/churn "
            "(letters, digits, single '.', '_' or '-' between them, at most 255 characters)",
            code="invalid-name",
            hint=hint,
        )
    return name


def check_alias(alias: str) -> str:
    """Return *alias* when it can name a movable label.

    Raises:
        InvalidInput: it cannot.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"not an alias: {alias!r:.140}; expected a letter first, then letters, digits, '_', '.' or '-'",
            code="invalid-alias",
            hint="numbers are versions and never move; call the alias something like champion"
            if alias.isdigit()
            else "call it something like champion",
        )
    return alias


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference.

    >>> Reference.parse("fraud/churn:champion").label
    'champion'
    >>> Reference.parse("fraud/churn:3").version
    3
    """

    name: str
    label: str | None = None
    digest: Digest | None = None
    host: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            InvalidInput: the text does not follow the grammar.
        """
        rest, at, digest = text.partition("@")
        host = None
        first, slash, tail = rest.partition("/")
        if slash and _HOST.fullmatch(first):
            host, rest = first, tail
        name, colon, label = rest.partition(":")
        if colon and not _VERSION.fullmatch(label):
            check_alias(label)
        return cls(check_name(name), label if colon else None, Digest.parse(digest) if at else None, host)

    @property
    def version(self) -> int | None:
        """The version number, when the label is one."""
        return int(self.label) if self.label is not None and _VERSION.fullmatch(self.label) else None

    @property
    def alias(self) -> str | None:
        """The alias, when the label is one."""
        return self.label if self.label is not None and self.version is None else None

    def __str__(self) -> str:
        text = f"{self.host}/{self.name}" if self.host else self.name
        if self.label is not None:
            text += f":{self.label}"
        return f"{text}@{self.digest}" if self.digest else text


def is_path(text: str) -> bool:
    """Whether a person means a path: it starts with ``/``, ``.`` or ``~``; everything else is a reference."""
    return text.startswith(("/", ".", "~"))
