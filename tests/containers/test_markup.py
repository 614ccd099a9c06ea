"""XML is read without document types, within bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.containers import markup
from assay.containers.markup import DoctypeRefused, Root, root_element, walk
from assay.errors import AssayError, BadFormat, LimitExceeded
from assay.trees import BytesWindow

LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><net x="&b;">&b;</net>"""
FETCH = b"""<!DOCTYPE net SYSTEM "http://example.org/evil.dtd"><net/>"""


class Events:
    def __init__(self) -> None:
        self.seen: list[object] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.seen.append((name, dict(attributes)))

    def end(self, name: str) -> None:
        self.seen.append(name)

    def text(self, text: str) -> None:
        self.seen.append(text.encode())


def events(data: bytes) -> list[object]:
    found = Events()
    walk(BytesWindow(data), found)
    return found.seen


def test_elements_come_in_document_order() -> None:
    assert events(b'<a x="1"><b>text</b></a>') == [("a", {"x": "1"}), ("b", {}), b"text", "b", "a"]


@pytest.mark.parametrize("data", [LAUGHS, FETCH])
def test_document_types_are_refused_before_anything_is_expanded(data: bytes) -> None:
    with pytest.raises(DoctypeRefused, match="refused"):
        events(data)
    assert root_element(data) == Root("net", {}, doctype=True)


def test_the_outermost_element_is_known_from_the_head_alone() -> None:
    root = root_element(b'\xef\xbb\xbf<?xml version="1.0"?><!-- c --><net version="11"><layers><layer')
    assert root == Root("net", {"version": "11"})
    for other in (b"", b"text", b"{}", b"<", b"<<", b"\x08\x01<net>", b"<!-- only -->"):
        assert root_element(other) is None


def test_nesting_and_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitExceeded, match="deeper than 512"):
        events(b"<a>" * 1000)
    monkeypatch.setattr(markup, "MAX_ELEMENTS", 10)
    with pytest.raises(LimitExceeded, match="over 10 elements"):
        events(b"<a>" + b"<b/>" * 20)


def test_one_endless_tag_reaches_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "MAX_TAG", 1 << 20)
    with pytest.raises(LimitExceeded, match="a tag is longer"):
        events(b'<a x="' + b"y" * (3 << 20))


def test_too_large_documents_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markup, "MAX_SIZE", 4)
    with pytest.raises(LimitExceeded, match="at most 4"):
        events(b"<abc/>")


@pytest.mark.parametrize("data", [b"<a>", b"<a></b>", b"<a>&x;</a>", b"<a/>junk", b"", b"\xff\xfe<"])
def test_what_is_not_well_formed_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat, match="well-formed"):
        events(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text("<>/=\"'&;!?ab ", max_size=60).map(str.encode))
def test_any_bytes_end_in_elements_or_our_errors(data: bytes) -> None:
    root_element(data)
    with contextlib.suppress(AssayError):
        events(data)
