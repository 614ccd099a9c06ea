"""PMML: models of many tools as XML (versions 3 and 4).

Read: header (who made it), data dictionary, the outermost model with its mining schema and outputs, and how many
segments, tree nodes and coefficients there are. ``parameter_count`` counts numeric coefficients, leaf scores are not
told from labels and therefore not counted.

Source: PMML 4.4 schema, dmg.org.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from assay.containers.guard import guarded
from assay.containers.markup import DoctypeRefused, includes, root_element, walk
from assay.errors import BadFormat
from assay.formats.boosting.tabular import MAX_NAME, MAX_PORTS
from assay.spec.description import Description, Port
from assay.spec.finding import Finding, Severity
from assay.spec.json import Json
from assay.trees import Tree

MAX_FUNCTIONS = 50
"""Functions that are named one by one."""

_READS = "read a file outside the artifact"
_DTYPES = {"double": "float64", "float": "float32", "integer": "int64", "boolean": "bool"}
_COUNTED = {"Segment": "segments", "Node": "nodes", "Neuron": "neurons", "SupportVector": "support_vectors"}
_COEFFICIENTS = ("NumericPredictor", "CategoricalPredictor", "PredictorTerm", "Con", "PCell", "Coefficient")
_TASKS = {"classification": "classification", "regression": "regression", "clustering": "clustering"}


class PMMLFormat:
    """Describes PMML documents."""

    name = "pmml"
    covers = "file"

    def detect(self, tree: Tree) -> Sequence[tuple[str, ...]]:
        """One group per document whose outermost element is ``PMML``."""
        return [(path,) for path in tree if _is_pmml(tree.head(path))]

    def describe(self, tree: Tree, paths: tuple[str, ...]) -> Description:
        """Fields, model and maker of one document; what cannot be finished is a finding.

        Raises:
            BadFormat: it ends before its first model.
        """
        path = paths[0]
        document = _Document()
        findings: tuple[Finding, ...] = ()
        with guarded("PMML", path):
            try:
                walk(tree.open(path), document)
            except DoctypeRefused as error:
                text, does = "a document type is declared, which may name files and expand", _READS
                refused = Finding("pmml-doctype", Severity.READ, text, path, effect=does)
                findings = (refused, Finding("pmml-incomplete", Severity.INCOMPLETE, error.message, path))
            except BadFormat as error:
                if document.model is None:
                    raise
                findings = (Finding("pmml-incomplete", Severity.INCOMPLETE, error.message, path),)
            return _description(document, paths, (*findings, *_reaching(document, path)))


def _reaching(document: _Document, path: str) -> Iterator[Finding]:
    """Findings about what a reader would get from elsewhere."""
    if document.includes:
        text = "an element is put in from another document"
        yield Finding("pmml-include", Severity.READ, text, path, effect=_READS)
    for name in sorted(document.called - document.defined)[:MAX_FUNCTIONS]:
        # Evaluators in Java take such a name for a class and load it.
        text = "a function is named like a class of the evaluator's host, and the document does not define it"
        yield Finding("pmml-foreign-function", Severity.INCOMPLETE, text, path, evidence=name[:200])


def _is_pmml(head: bytes) -> bool:
    if b"PMML" not in head:
        return False
    root = root_element(head)
    return root is not None and _local(root.name) == "PMML"


def _local(name: str) -> str:
    return name.rpartition(":")[2]


class _Document:
    """Collects what the description needs while the elements pass by."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.maker: Mapping[str, str] = {}
        self.types: dict[str, str] = {}
        self.model: tuple[str, Mapping[str, str]] | None = None
        self.schema: list[Mapping[str, str]] = []
        self.outputs: list[Mapping[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.coefficients = 0
        self.includes = False
        self.called: set[str] = set()
        self.defined: set[str] = set()
        self._above: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.includes |= includes(name, attributes)
        name = _local(name)
        parent = self._above[-1] if self._above else ""
        depth = len(self._above)
        self._above.append(name)
        if depth == 0:
            self.version = attributes.get("version")
        elif name == "Application":
            self.maker = attributes
        elif name == "DataField" and parent == "DataDictionary" and len(self.types) < MAX_PORTS:
            self.types[attributes.get("name", "")] = attributes.get("dataType", "unknown")
        elif depth == 1 and attributes.get("functionName") and self.model is None:
            self.model = (name, attributes)
        elif depth == 3 and name == "MiningField" and len(self.schema) < MAX_PORTS:
            self.schema.append(attributes)
        elif depth == 3 and name == "OutputField" and len(self.outputs) < MAX_PORTS:
            self.outputs.append(attributes)
        function = attributes.get("function", "") if name == "Apply" else ""
        if "." in function and len(self.called) <= MAX_FUNCTIONS:
            self.called.add(function)
        elif name == "DefineFunction":
            self.defined.add(attributes.get("name", ""))
        if name in _COUNTED:
            self.counts[_COUNTED[name]] += 1
        self.coefficients += name in _COEFFICIENTS

    def end(self, _: str) -> None:
        self._above.pop()

    def text(self, _: str) -> None:
        """Text says nothing that is kept."""


def _description(document: _Document, paths: tuple[str, ...], findings: tuple[Finding, ...]) -> Description:
    kind, attributes = document.model or ("", {})
    targets = [field for field in document.schema if field.get("usageType") in ("target", "predicted")]
    active = [field for field in document.schema if field.get("usageType", "active") == "active"]
    names = {"name": "modelName", "algorithm": "algorithmName", "function": "functionName"}
    stated = {key: attributes.get(attribute) for key, attribute in names.items()}
    metadata: dict[str, Json] = {key: value[:MAX_NAME] for key, value in stated.items() if value}
    if document.model is None:
        findings = (*findings, Finding("pmml-no-model", Severity.NOTE, "the document holds no model", paths[0]))
    outputs = [_port(field, document) for field in document.outputs] or [_port(field, document) for field in targets]
    return Description(
        format="pmml",
        paths=paths,
        format_version=document.version,
        framework=document.maker.get("name", "pmml")[:MAX_NAME],
        framework_version=document.maker.get("version", "")[:MAX_NAME] or None,
        architecture=kind or None,
        task=_TASKS.get(attributes.get("functionName", "")),
        parameter_count=document.coefficients or None,
        inputs=tuple(_port(field, document) for field in active),
        outputs=tuple(outputs),
        metadata=metadata | dict(document.counts),
        findings=findings,
    )


def _port(field: Mapping[str, str], document: _Document) -> Port:
    name = field.get("name", "")
    kind = field.get("dataType") or document.types.get(name, "unknown")
    return Port(name[:MAX_NAME], _DTYPES.get(kind, kind)[:MAX_NAME], (None,))
