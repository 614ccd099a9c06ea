"""The layout of ``torch.save`` before torch 1.6: five pickles in a row, then the storages' raw bytes.

Drawn as a stream::

    pickle  magic number 0x1950a86a20f9469cfc6c
    pickle  protocol version 1001
    pickle  system: {"protocol_version", "little_endian", "type_sizes"}
    pickle  the object; storages are persistent ids
    pickle  list of storage keys, in the order of what follows
    per key: number of elements (8 bytes, little-endian), then the elements

Source: ``torch.serialization._legacy_save``/``_legacy_load`` and ``THPStorage_writeFileRaw``. The elements are
little-endian whatever the system record says: torch swaps them on big-endian machines when writing and when reading.
"""

from __future__ import annotations

import struct

from assay.audit.pickles import judge
from assay.containers.pickle import parse as pickles
from assay.containers.pickle.parse import Parsed
from assay.errors import BadFormat
from assay.formats.pytorch.graph import reachable
from assay.formats.pytorch.saved import Record, Saved
from assay.formats.pytorch.values import Malformed, StorageValue, element_bits, storage_of
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Window

MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number as every pickle protocol from 2 on writes it (LONG1 of ten bytes, STOP), after the PROTO opcode."""

MAX_STORAGES = 1_000_000

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_MAX_PREAMBLE = 1 << 14
# Bytes the first three pickles may take; torch needs about a hundred.
_COUNT = struct.Struct("<q")


def is_legacy(head: bytes) -> bool:
    """Whether an entry's head is that of the legacy layout."""
    # From protocol 4 on a FRAME opcode with its eight bytes may stand between PROTO and the number.
    start = 11 if head[2:3] == b"\x95" else 2
    return head[:1] == b"\x80" and head[start:].startswith(MAGIC)


class StreamRecords:
    """Storages that lie behind each other in one entry."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._records: dict[str, Record] = {}

    def add(self, key: str, offset: int, size: int) -> None:
        """Note a storage of *size* bytes at *offset* of the window."""
        self._records[key] = Record(size, self._window.start + offset)

    def find(self, key: str) -> Record | None:
        """Where the bytes of a storage lie, or None when the file has no such storage."""
        return self._records.get(key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of a storage.

        Raises:
            BadFormat: there are not that many.
        """
        record = self._records.get(key)
        if record is None or record.offset is None or offset + length > record.size:
            raise BadFormat(f"{self._window.path}: storage {key!r} does not hold {length} bytes at {offset}")
        return self._window.exactly(record.offset - self._window.start + offset, length)


def read_legacy(window: Window) -> Saved:
    """Read the five pickles and find the storages behind them.

    Raises:
        BadFormat: one of the first four pickles is not what the layout demands.
    """
    position, protocol, system, beside = _preamble(window)
    parsed = pickles.parse(window, offset=position)
    findings = list(parsed.findings)
    storages = _storages(parsed.value)
    records = StreamRecords(window)
    try:
        keys = pickles.parse(window, offset=parsed.end)
        beside.append(keys)
        end = _place(window, keys.end, keys.value, storages, records)
        if end < window.size:
            findings.append(
                _finding(
                    window,
                    "pytorch-trailing-bytes",
                    f"{window.size - end:,} bytes follow the last storage",
                    end,
                    Severity.MISLEAD,
                )
            )
    except BadFormat as error:
        findings.append(_finding(window, "pytorch-storages", error.message, parsed.end, Severity.INCOMPLETE))
    findings += _calls(window, beside)
    findings += judge([parsed, *beside], window, torch=True)
    facts: dict[str, Json] = {}
    if isinstance(system, dict) and isinstance(system.get("little_endian"), bool):
        facts["saved_on"] = "little-endian" if system["little_endian"] else "big-endian"
    return Saved(
        path=window.path,
        version=f"legacy {protocol}",
        value=parsed.value,
        globals=tuple(use.global_ for part in (parsed, *beside) for use in part.globals),
        records=records,
        facts=facts,
        findings=tuple(findings),
    )


def _calls(window: Window, beside: list[Parsed]) -> list[Finding]:
    """Report whatever the pickles around the object name: torch writes only numbers, texts and plain dicts there."""
    found: list[Finding] = []
    for part in beside:
        found += part.findings
        for use in part.globals[:1]:
            message = f"a pickle that should hold plain values names {str(use.global_)[:120]!r}"
            where = window.start + use.offset
            effect = "import or call what the pickle names"
            found.append(
                Finding("pytorch-preamble-global", Severity.EXECUTE, message, window.path, where, effect=effect)
            )
    return found


def _preamble(window: Window) -> tuple[int, int, object, list[Parsed]]:
    window = window.sub(0, _MAX_PREAMBLE)
    magic = pickles.parse(window)
    if not isinstance(magic.value, int) or magic.value != _MAGIC_NUMBER:
        raise BadFormat(f"{window.path}: not a legacy torch file: the magic number is missing", path=window.path)
    protocol = pickles.parse(window, offset=magic.end)
    if not isinstance(protocol.value, int) or not 0 <= protocol.value < 1 << 31:
        raise BadFormat(
            f"{window.path}: expected a protocol version after the magic number", path=window.path, offset=magic.end
        )
    system = pickles.parse(window, offset=protocol.end)
    return system.end, protocol.value, system.value, [magic, protocol, system]


def _storages(value: object) -> dict[str, StorageValue]:
    found: dict[str, StorageValue] = {}
    for item in reachable(value):
        try:
            storage = storage_of(item)
        except Malformed:
            continue
        if storage is not None:
            found.setdefault(storage.key, storage)
    return found


def _place(
    window: Window, position: int, keys: object, storages: dict[str, StorageValue], records: StreamRecords
) -> int:
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
        raise BadFormat("expected a list of storage keys after the object", path=window.path, offset=position)
    for key in keys:
        text = key.decode("latin-1") if isinstance(key, bytes) else key
        storage = storages.get(text) if isinstance(text, str) else None
        if storage is None:
            raise BadFormat(
                f"storage {str(key)[:60]!r} is listed but not used by the object; what follows cannot be placed",
                path=window.path,
                offset=position,
            )
        (count,) = _COUNT.unpack(window.exactly(position, _COUNT.size))
        position += _COUNT.size
        size = (count * (element_bits(storage.dtype) or 8) + 7) // 8
        if count < 0 or size > window.size - position:
            raise BadFormat(
                f"storage {storage.key[:60]!r} states {count:,} elements, {window.size - position:,} bytes are left",
                path=window.path,
                offset=position,
            )
        records.add(storage.key, position, size)
        position += size
    return position


def _finding(window: Window, rule: str, message: str, offset: int, severity: Severity) -> Finding:
    return Finding(rule, severity, message, window.path, window.start + offset)
