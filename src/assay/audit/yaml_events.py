"""YAML read as a row of events: keys, texts and tags, with no value ever built and no alias followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from assay.containers.guard import guarded
from assay.errors import LimitExceeded

MAX_EVENTS = 200_000
MAX_EXPANDED = 1_000_000
"""Nodes a document may have once its aliases are followed."""
_MAX_DEPTH = 200
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its text, or a tagged node.

    Args:
        keys: the keys above it, innermost last.
        text: its text; empty for mappings and sequences.
        tag: its explicit tag, empty when it has none.
        at: where it begins, in characters.
    """

    keys: tuple[str, ...]
    text: str
    tag: str
    at: int


@dataclass(slots=True)
class _Frame:
    mapping: bool
    anchor: str | None
    key: str | None = None
    nodes: int = 1


@dataclass(slots=True)
class Walk:
    """One pass over a text; ``expanded`` is the number of nodes it stands for, aliases followed."""

    expanded: int = 0
    _sizes: dict[str, int] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)
    _stack: list[_Frame] = field(default_factory=list)

    def items(self, text: str, path: str) -> Iterator[Item]:
        """Every scalar and every tagged node.

        Raises:
            BadFormat: it is not YAML.
            LimitExceeded: more than ``MAX_EVENTS``, or nested too deep.
        """
        with guarded("YAML", path):
            for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
                if count >= MAX_EVENTS or len(self._stack) > _MAX_DEPTH:
                    raise LimitExceeded(f"{path}: YAML of more than {MAX_EVENTS:,} events or too deep", path=path)
                yield from self._step(event)

    def _step(self, event: yaml.Event) -> Iterator[Item]:
        at = event.start_mark.index if event.start_mark is not None else 0
        if isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                self._texts[event.anchor] = event.value
                self._sizes[event.anchor] = 1
            yield from self._scalar(event.value, event.tag or "", at)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if event.tag:
                yield Item(self._keys(), "", event.tag, at)
            self._stack.append(_Frame(isinstance(event, yaml.MappingStartEvent), event.anchor))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            frame = self._stack.pop()
            self._done(frame.nodes, frame.anchor)
        elif isinstance(event, yaml.AliasEvent):
            size, text = self._sizes.get(event.anchor or "", 1), self._texts.get(event.anchor or "")
            if text is not None and size == 1:
                yield from self._scalar(text, "", at)
            else:
                self._done(size, None)

    def _scalar(self, text: str, tag: str, at: int) -> Iterator[Item]:
        """A text, itself or through its alias, as a key or as a value."""
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.mapping and frame.key is None:
            frame.key = text
            if tag:
                yield Item(self._keys(), "", tag, at)
        else:
            yield Item(self._keys(), text, tag, at)
            self._done(1, None)

    def _keys(self) -> tuple[str, ...]:
        return tuple(frame.key for frame in self._stack if frame.key is not None)

    def _done(self, nodes: int, anchor: str | None) -> None:
        """A node of so many nodes ended."""
        if anchor:
            self._sizes[anchor] = nodes
            self._texts.pop(anchor, None)  # the name may have stood for a text before
        self.expanded = max(self.expanded, nodes)
        if self._stack:
            frame = self._stack[-1]
            frame.nodes = min(frame.nodes + nodes, 1 << 62)
            if frame.mapping and frame.key is None:
                frame.key = ""  # a mapping as a key
            else:
                frame.key = None
