"""XML read as a stream of elements, without anything that makes XML dangerous.

No document type is accepted, so no entity can be declared, expanded or fetched; size, nesting and the length of a
single tag are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from xml.parsers import expat

from assay.errors import BadFormat, LimitExceeded
from assay.trees import Window

MAX_SIZE = 1 << 28
MAX_DEPTH = 512
MAX_ELEMENTS = 5_000_000
MAX_TAG = 1 << 23
"""Bytes of one tag or run of text."""

_CHUNK = 1 << 19
_TAG = re.compile(rb"<([A-Za-z_][A-Za-z0-9_.:-]{0,200})")


class DoctypeRefused(BadFormat):
    """The document declares a type, which could define entities."""

    default_code = "xml-doctype"


def includes(name: str, attributes: Mapping[str, str]) -> bool:
    """Whether an element asks its reader to put another document in its place (XInclude, external entities aside).

    >>> includes("xi:include", {"href": "other.xml"}), includes("Node", {"href": "x"})
    (True, False)
    """
    prefix, colon, local = name.rpartition(":")
    if local != "include" or "href" not in attributes:
        return False
    return bool(colon and prefix) or any("XInclude" in value for value in attributes.values())


class Elements(Protocol):
    """What takes the elements of a document."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        ...

    def end(self, name: str) -> None:
        """The element that began last, and did not end yet, ends."""
        ...

    def text(self, text: str) -> None:
        """A piece of text inside the innermost element."""
        ...


def walk(window: Window, elements: Elements) -> None:
    """Hand the elements of an XML document to *elements*, in document order.

    Raises:
        BadFormat: the document is not well-formed.
        DoctypeRefused: it declares a document type.
        LimitExceeded: it is larger, deeper or longer than the limits of this module.
    """
    path = window.path
    if window.size > MAX_SIZE:
        raise LimitExceeded(f"{path}: {window.size:,} bytes of XML, at most {MAX_SIZE:,} are read", path=path)
    parser = _parser(path, elements)
    position = 0
    try:
        while position < window.size:
            chunk = window.read(position, _CHUNK)
            position += len(chunk)
            parser.Parse(chunk, False)  # noqa: FBT003 - expat takes it by position
            if not chunk or position - parser.CurrentByteIndex > MAX_TAG:
                raise LimitExceeded(f"{path}: a tag is longer than {MAX_TAG:,} bytes", path=path, offset=position)
        parser.Parse(b"", True)  # noqa: FBT003 - same
    except expat.ExpatError as error:
        offset = window.start + max(0, parser.ErrorByteIndex)
        raise BadFormat(f"{path}: XML is not well-formed: {error}", path=path, offset=offset) from None


@dataclass(frozen=True, slots=True)
class Root:
    """The outermost element of a document.

    Args:
        name: as its tag, or the document type declaration before it, says.
        attributes: of its tag.
        doctype: whether a document type is declared; then the tag itself was not looked at.
    """

    name: str
    attributes: Mapping[str, str]
    doctype: bool = False


class _Seen(Exception):
    """The outermost element was seen."""

    def __init__(self, root: Root) -> None:
        super().__init__()
        self.root = root


def root_element(head: bytes) -> Root | None:
    """The outermost element that begins in *head*, or None when there is none."""
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe<", b"\xfe\xff")):
        return None

    def start(name: str, attributes: dict[str, str]) -> None:
        raise _Seen(Root(name, attributes))

    def doctype(name: str, *_: object) -> None:
        # Its name need not be that of the element, and going on could expand what it declares.
        tag = _TAG.search(head, head.find(b"<!DOCTYPE"))
        raise _Seen(Root(tag[1].decode("ascii") if tag else name, {}, doctype=True))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(head, False)  # noqa: FBT003 - expat takes it by position
    except _Seen as seen:
        return seen.root
    except expat.ExpatError:
        return None
    return None


def _parser(path: str, elements: Elements) -> expat.XMLParserType:
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth += 1
        count += 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            what = (
                f"elements nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"over {MAX_ELEMENTS:,} elements"
            )
            raise LimitExceeded(f"{path}: {what}", path=path, offset=parser.CurrentByteIndex)
        elements.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        elements.end(name)

    def doctype(*_: object) -> None:
        raise DoctypeRefused(
            f"{path}: document type declarations are refused", path=path, offset=parser.CurrentByteIndex
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = elements.text
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    return parser
