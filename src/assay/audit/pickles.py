"""What unpickling a stream would do, decided without doing it.

Everything the stream says counts, also what it throws away and what comes before a fault: every name, every call, every
state, every object it leaves to its loader. What is not known to be harmless is a finding.

Not here: how a stream is run symbolically (``containers.pickle``), what the tables hold (``globals``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assay.audit.arguments import (
    dtype_objection,
    dunder,
    is_distribution,
    objection,
    partial_objection,
    storage_objection,
    vectorize_objection,
)
from assay.audit.distributions import distribution_objection
from assay.audit.globals import Entry, Role, danger, entry
from assay.audit.pickle_values import dangerous_shape, kept
from assay.containers.pickle.parse import Parsed, parse
from assay.containers.pickle.values import Call, Global, Persistent, payload
from assay.errors import AssayError
from assay.spec.finding import Finding, Severity
from assay.trees import BytesWindow, Window

MAX_FINDINGS = 200
"""Findings about one file, beyond which only the first of each rule is kept, and that there are more."""
MAX_NESTED = 4
"""Depth of streams given to functions that unpickle them."""

_GROWING = frozenset(
    "builtins.dict builtins.list builtins.set collections.Counter collections.OrderedDict collections.defaultdict "
    "collections.deque copyreg.__newobj__ copyreg._reconstructor".split()
)
# Whose results may be given items; classes that are made empty are.
_SCRIPT_LISTS = frozenset(
    "build_boollist build_doublelist build_intlist build_tensor_from_id build_tensorlist restore_type_tag".split()
)
_OWN_STATE = frozenset(
    {
        "array", "collection", "compiled", "defaultdict", "generator", "mareconstruct", "newobj", "nothing",
        "pandas-class", "parameter", "plain", "reconstruct", "reconstructor", "tree",
    }
)  # fmt: skip
# Helpers whose results may get a state.


def names(streams: Iterable[Parsed]) -> tuple[str, ...]:
    """Every name the streams use, as ``module.name``, each once."""
    return tuple(dict.fromkeys(str(use.global_) for stream in streams for use in stream.globals))


def judge(
    streams: Sequence[Parsed], window: Window, *, torch: bool = False, script: bool = False, depth: int = 0
) -> list[Finding]:
    """What loading pickle streams would do.

    Args:
        streams: as ``parse`` read them, from *window*.
        window: where they lie.
        torch: whether ``torch.load`` reads them: objects outside the stream are storages.
        script: whether they belong to a TorchScript program: its own classes and torch's readers of lists are no names
            of Python.
        depth: how many streams they are nested in.
    """
    judging = _Judging(window, torch=torch, script=script, depth=depth)
    for stream in streams:
        judging.stream(stream)
    return list(judging.found.values())


class _Judging:
    """The findings of one file, each kind of thing once at its first offset."""

    def __init__(self, window: Window, *, torch: bool, script: bool, depth: int) -> None:
        self._window = window
        self._torch = torch
        self._script = script
        self._depth = depth
        self.found: dict[tuple[str, str], Finding] = {}

    def stream(self, stream: Parsed) -> None:
        """Judge one stream."""
        rows: dict[int, Entry | None] = {}
        reduced = {id(call.function) for call in stream.calls if call.how == "reduce"}
        for use in stream.globals:
            name = use.global_
            row = self._row(name)
            if row is not None and row.rule == "text-method" and id(name) not in reduced:
                row = None  # getattr: harmless in its one honest call alone
            rows[id(name)] = row
            if row is None:
                self._name(name, use.offset)
        never = {id(use.global_) for use in stream.globals if self._never_kept(rows[id(use.global_)])}
        for call in stream.calls:
            function = call.function
            if self._torch and type(function) is Persistent and storage_objection(function) is None:
                function = function.pid[1]  # in old files a module's class with its source
            if type(function) is not Global:
                self._add("pickle-computed-call", Severity.EXECUTE, "the result of a call is called", call.offset)
                continue
            row = rows[id(function)] if id(function) in rows else self._row(function)
            if row is not None:
                self._call(call, function, row)
                if call.state is not None or call.grown is not None:
                    self._state(call, function, row)
        for value in stream.persistent:
            reason = storage_objection(value) if self._torch else "a persistent id, which only its loader understands"
            if reason:
                severity = Severity.EXECUTE if self._torch else Severity.INCOMPLETE
                self._add("pickle-persistent", severity, f"the pickle holds {reason}", value.offset)
            if value.state is not None or value.grown is not None:
                message = "the pickle changes a storage, which torch never does"
                self._add("pickle-state", Severity.EXECUTE, message, value.offset)
        self._shape(stream, never)

    def _row(self, name: Global) -> Entry | None:
        if self._script and name.module.partition(".")[0] == "__torch__":
            return Entry(Role.CALL)
        if self._script and name.module == "torch.jit._pickle" and name.name in _SCRIPT_LISTS:
            return Entry(Role.CALL)
        return entry(name.module, name.name)

    def _never_kept(self, row: Entry | None) -> bool:
        return row is not None and (row.role is Role.NESTED or row.rule in ("partial", "from-type", "text-method"))

    def _shape(self, stream: Parsed, never: set[int]) -> None:
        """Bombs, and functions kept as values that may only be called."""
        bomb = dangerous_shape(stream)
        if bomb:
            self._add("pickle-bomb", Severity.EXHAUST, bomb, 0, effect="use up memory or time")
        if never:
            for name in kept(stream, never):
                message = f"the pickle keeps {name} as a value, which may only be called"
                self._add("pickle-kept-function", Severity.EXECUTE, message, 0, str(name))

    def _name(self, name: Global, offset: int) -> None:
        full = str(name)
        known = danger(name.module, name.name)
        if known is not None:
            message = f"the pickle names {_short(full)}, which can {known.effect}"
            self._add("pickle-dangerous-global", known.severity, message, offset, full, known.effect)
        elif "." in name.name:
            message = f"the pickle walks the attributes {_short(name.name)} of {_short(name.module)}"
            effect = "import a module and walk its attributes"
            self._add("pickle-dotted-global", Severity.EXECUTE, message, offset, full, effect)
        else:
            message = f"it needs {_short(name.name)} from {_short(name.module)}; it is not known to be harmless"
            effect = f"import {_short(name.module)} and use what it holds"
            self._add("pickle-unknown-global", Severity.EXECUTE, message, offset, full, effect)

    def _call(self, call: Call, function: Global, row: Entry) -> None:
        role = row.role
        if role is Role.CALL:
            return
        if role is Role.HELPER:
            # Empty instances of the built-in classes among the helpers are as harmless as those of others.
            reason = objection(call, row.rule) if call.how != "newobj" or call.args else None
            if call.kwargs:
                reason = "keyword arguments"
            if reason:
                lying = "a length of" in reason or "that the stream does not hold" in reason
                severity = Severity.EXHAUST if lying else Severity.EXECUTE
                message = f"the pickle calls {_short(str(function))} with {reason}"
                self._add(
                    "pickle-arguments", severity, message, call.offset, str(function), f"call {_short(str(function))}"
                )
        elif role is Role.NESTED:
            self._nested(call, function)
        elif role is Role.VALUE or call.how == "reduce" or call.args or call.kwargs:
            if role is Role.CONSTRUCT and call.how == "newobj" and not call.kwargs and _simple(call.args):
                return
            message = f"the pickle calls {_short(str(function))}, which may only be {_ONLY[role]}"
            self._add(
                "pickle-call", Severity.EXECUTE, message, call.offset, str(function), f"call {_short(str(function))}"
            )

    def _state(self, call: Call, function: Global, row: Entry) -> None:
        full = str(function)
        if call.earlier_states:
            message = (
                f"the pickle sets the state of a {_short(full)} twice: the first may install what the second calls"
            )
            self._add("pickle-state", Severity.EXECUTE, message, call.offset, full, "run what the pickle installed")
        if call.grown is not None and (call.items or call.entries):
            fits = full in _GROWING or row.role is Role.CONSTRUCT
            if not fits:
                message = f"the pickle changes the items of what {_short(full)} made"
                self._add("pickle-state", Severity.EXECUTE, message, call.offset, full, f"change a {_short(full)}")
        if call.state is None:
            return
        reason = self._state_objection(call, row)
        if reason:
            self._add(
                "pickle-state", Severity.EXECUTE, f"{reason} ({_short(full)})", call.offset, full, "set attributes"
            )

    def _state_objection(self, call: Call, row: Entry) -> str | None:
        if row.rule == "dtype":
            return dtype_objection(call)
        if row.rule == "vectorize":
            return vectorize_objection(call)
        made = call.args[0] if row.rule in ("reconstructor", "newobj") and call.args else call.function
        if is_distribution(made):
            return distribution_objection(call)
        if row.rule == "partial":
            return partial_objection(call)
        if row.rule == "from-type" or (row.role is Role.HELPER and row.rule not in _OWN_STATE):
            return "the pickle sets the state of something that has none"
        state = call.state
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            name = dunder(part) if isinstance(part, dict) else None
            if name is not None:
                return f"the pickle sets the attribute {name!r}"
        return None

    def _nested(self, call: Call, function: Global) -> None:
        """A stream in the stream, read as the function would."""
        inner = _inner_window(call.args[0] if len(call.args) == 1 else None, self._window)
        where = self._window.path
        if inner is None or self._depth >= MAX_NESTED or inner.read(0, 2) == b"PK":
            message = f"the bytes given to {_short(str(function))} are not looked at"
            self._add("pickle-nested", Severity.INCOMPLETE, message, call.offset, str(function))
            return
        streams: list[Parsed] = []
        position = 0
        try:
            while len(streams) < 5:
                streams.append(parse(inner, offset=position))
                position = streams[-1].end
        except AssayError as error:
            message = f"a torch file inside the pickle is not read to its end: {error.message}"
            self._add("pickle-nested", Severity.INCOMPLETE, message, call.offset, str(function))
        for found in (
            *(finding for one in streams for finding in one.findings),
            *judge(streams, inner, torch=True, depth=self._depth + 1),
        ):
            message = f"inside the bytes given to {_short(str(function))}: {found.message}"
            at = call.offset + self._window.start
            new = Finding(found.rule, found.severity, message, where, at, found.evidence, found.effect)
            self.found.setdefault((found.rule, found.evidence or message), new)

    def _add(
        self, rule: str, severity: Severity, message: str, offset: int, evidence: str = "", effect: str = ""
    ) -> None:
        evidence = evidence if len(evidence) <= _MAX_EVIDENCE else _short(evidence)
        key = rule, evidence or message
        if key in self.found:
            return
        at = self._window.start + offset
        if len(self.found) < MAX_FINDINGS or not any(known == rule for known, _ in self.found):
            self.found[key] = Finding(rule, severity, message, self._window.path, at, evidence, effect)
        elif ("pickle-more", "") not in self.found:  # a policy may let pass what was kept, never what was not
            more = f"more than {MAX_FINDINGS} findings: the rest is left out"
            self.found["pickle-more", ""] = Finding("pickle-more", Severity.INCOMPLETE, more, self._window.path, at)


_MAX_EVIDENCE = 1000
_ONLY = {Role.VALUE: "kept", Role.CONSTRUCT: "made empty"}


def _simple(args: tuple[object, ...]) -> bool:
    """Whether ``__new__`` of a class that is made empty gets nothing that could be a size."""
    return all(isinstance(value, (Call, str, tuple, bool, type(None))) for value in args)


def _inner_window(value: object, window: Window) -> Window | None:
    """The bytes a call is given, as a window."""
    place = payload(value)
    if place is not None:
        return window.sub(*place)
    if type(value) is Call and value.args and value.calls("_codecs.encode"):
        text = value.args[0]
        if isinstance(text, str):
            try:
                return BytesWindow(text.encode("latin-1"), window.path)
            except UnicodeEncodeError:
                return None
        value = text
    return BytesWindow(bytes(value), window.path) if isinstance(value, bytes) else None


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:60]}…{text[-30:]}"
