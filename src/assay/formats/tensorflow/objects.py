"""The objects of a SavedModel: which Python object owned what, and Keras' notes about its layers.

Source: the field numbers of ``saved_object_graph.proto`` and Keras' ``saved_metadata.proto``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.containers.protobuf.message import BYTES, Field
from assay.spec.json import Json

MAX_NODES = 500_000
"""Objects of one graph."""

MAX_METADATA = 64 << 20
"""Bytes of the notes of one object."""

MAX_METADATA_TOTAL = 256 << 20
"""Bytes of the notes of all objects together."""


@dataclass(slots=True)
class Objects:
    """What an object graph says.

    Args:
        kinds: kind of object to how often it occurs.
        notes: object number to Keras' notes about it (JSON text).
        variables: number of variables.
        trainable: number of trainable ones.
        truncated: whether there was more than is read.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    notes: dict[int, str] = field(default_factory=dict)
    variables: int = 0
    trainable: int = 0
    truncated: bool = False
    _bytes: int = 0

    def note(self, number: int, text: Field) -> None:
        """Keep what Keras notes about an object."""
        self._bytes += text.size
        if text.size > MAX_METADATA or self._bytes > MAX_METADATA_TOTAL:
            self.truncated = True
        elif text.size:
            self.notes[number] = text.text(MAX_METADATA)


def read_objects(source: Field) -> Objects:
    """Read a SavedObjectGraph.

    Raises:
        BadFormat: it is not one.
    """
    objects = Objects()
    number = 0
    for part in source:
        if part.number != 1:
            continue
        if number >= MAX_NODES:
            objects.truncated = True
            break
        for inner in part:
            if inner.number == 4:
                _user_object(inner, number, objects)
            elif inner.number == 7:
                objects.variables += 1
                objects.trainable += any(value.number == 3 and value.wire != BYTES and value.integer for value in inner)
        number += 1
    return objects


def read_keras_metadata(source: Field, objects: Objects) -> None:
    """Add the notes of a ``keras_metadata.pb``, where TensorFlow 2.5 to 2.15 keep them.

    Raises:
        BadFormat: it is not one.
    """
    for part in source:
        if part.number != 1 or len(objects.notes) >= MAX_NODES:
            continue
        number, identifier = 0, ""
        for inner in part:
            if inner.number == 2:
                number = inner.integer
            elif inner.number == 4:
                identifier = inner.text(200)
            elif inner.number == 5:
                objects.note(number, inner)
        if identifier:
            objects.kinds[identifier] += 1


def is_layer(notes: Json) -> bool:
    """Whether notes are those of a layer or model, not of a metric or loss."""
    return isinstance(notes, Mapping) and "class_name" in notes and "config" in notes and "trainable" in notes


def _user_object(source: Field, number: int, objects: Objects) -> None:
    identifier, text = "", None
    for part in source:
        if part.number == 1:
            identifier = part.text(200)
        elif part.number == 3 and part.wire == BYTES:
            text = part
    objects.kinds[identifier] += 1
    if text is not None and identifier.startswith("_tf_keras"):
        objects.note(number, text)
