"""Settings files, whoever reads them: keys that name code, tags that build objects, references that lead elsewhere.

Formats describe the settings they know; this looks at every JSON and YAML file of a tree, because a key that names code
does so in a file that no format claims as well. A file without any of the words that matter is not even parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename

from assay.audit.code_names import is_dangerous, weigh_name
from assay.audit.jinja import judge_template
from assay.audit.manifests import MANIFESTS, judge_manifest, judge_part
from assay.audit.yaml_events import MAX_EXPANDED, Walk
from assay.containers.documents import MAX_JSON, parse_json
from assay.containers.locations import escaping
from assay.errors import AssayError
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.spec.json import Json
from assay.trees import Tree

MAX_YAML = 2 << 20
MAX_LONG_YAML = 8 << 20
"""Bytes of YAML that are searched for the words that matter."""
MAX_FILES = 2_000
"""Settings files of one tree that are looked at."""
_MAX_VALUES = 4_000_000
_MAX_FINDINGS = 40
_MAX_VISITED = 300_000

_CODE_KEYS = frozenset(
    "_target_ __target__ _target class_path loader_module py/object py/type py/function py/class".split()
)
_ALWAYS_CODE = frozenset("py/reduce py/repr py/newargs py/newargsex py/initargs __reduce__ custom_generate".split())
_CLASS_LIKE = re.compile(
    r"(?:^|_)(?:class|cls|fn|func|function|module|loader|handler|factory|callable|entry_?point|imports?|target|type|hook|"
    r"activation|callback|builder|constructor|impl|object|init|initializer|processor|method|script|code)(?:_path|_name|_fn|s)?_?$"
)
_HUB_CONFIGS = re.compile(
    r"(?:config|generation_config|tokenizer_config|processor_config|preprocessor_config|video_preprocessor_config|"
    r"adapter_config|model_index|modules|config_sentence_transformers|sentence_[a-z-]{1,20}_config|scheduler_config|"
    r"feature_extractor_config|image_processor_config|router_config)\.json"
)
_FILE_KEY = re.compile(
    r"(?:.*_)?(?:file|files|path|paths|weights|checkpoint|filename|name_or_path|vocab|merges|url|uri)"
)
_REMOTE = re.compile(r"(?:[a-z][a-z0-9+.-]{1,20})://|\\\\\\\\", re.IGNORECASE)
_REPOSITORY = re.compile(r"(?:[\w|.-]{1,40}\|)?[\w.-]{1,100}/[\w.-]{1,100}(?:[@:].{0,200})?")
_EXPRESSION = re.compile(r"\s*\$(?:import |from |[A-Za-z_][\w.]*\()")
"""What MONAI evaluates as Python when it reads a bundle."""
_LEFTOVER = re.compile(
    r"(?:special_tokens_map|tokenizer|tokenizer_config|vocab|added_tokens|merges|spiece|sentencepiece.*|config)\.\w+|tokenizer"
)
_PLAIN_ATTENTION = frozenset("eager sdpa flash_attention_2 flash_attention_3 flex_attention paged_attention".split())
_JSON_WORDS = re.compile(
    rb'"(?:_target_|__target__|_target|class_path|loader_module|py/|auto_map|custom_|trust_remote_code|weight_map|'
    rb'[^"\n]{0,60}(?:implementation|kernel)|__reduce__|chat_template|target|layers|resources|payload|_class_name|'
    rb'[^"\n]{0,60}_(?:class|cls|fn|func|function|module|loader|handler|factory|callable|path|file|files)"'
    rb"|callable|module|entry_?point|imports?|handler|script|factory|function|path|vocab|merges)"
    rb"|\\u00[2-7][0-9a-fA-F]|\$import|\"\$"
)
_YAML_WORDS = re.compile(
    rb"(?:^|[\s\[{,:-])![\w!<]|_target_?|class_path|loader_module|python/|[:\-,\[]\s*\*\w|\\[xuU]|\btarget:|%TAG|\$import|"
    rb"(?:handler|callable|entry_?point|_class|_function|_fn|module|path|file)s?[\"']?\s*:"
)


class SettingsAuditor:
    """Looks at every JSON and YAML file of a tree."""

    name = "settings"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        """Keys, tags and references of settings files that make a reader run, fetch or open something."""
        told = {finding.path for finding in inspection.all_findings if finding.rule == "huggingface-auto-map"}
        found: list[Finding] = []
        count = 0
        for path in tree.paths:
            judge = _judge_of(basename(path))
            if judge is None:
                continue
            count += 1
            if count > MAX_FILES:
                message = f"more than {MAX_FILES:,} files of settings: the rest is not looked at"
                found.append(Finding("settings-too-many", Severity.INCOMPLETE, message, path))
                break
            found += judge(tree, path, path in told)
        return found


_PARTS = ("Kitfile", "dvc.lock", "dvc.yaml")


def _judge_of(name: str) -> Callable[[Tree, str, bool], list[Finding]] | None:
    lower = name.lower()
    if lower.endswith((".json", ".jsonc", ".json5", ".sigstore", ".sig")):
        return _json
    if lower.endswith((".yaml", ".yml", ".dvc")) or name in ("MLmodel", *_PARTS):
        return _yaml
    return None


def _json(tree: Tree, path: str, told: bool) -> list[Finding]:  # noqa: FBT001 - one of two readers of the same shape
    if tree.size(path) > MAX_JSON:
        return []  # a format that describes it says so, and nobody else reads it whole
    data = _utf8(tree.open(path).read())
    if not _JSON_WORDS.search(data):
        return []
    judged = _Judged(path, data, told=told)
    try:
        value = parse_json(data, path, max_values=_MAX_VALUES).value
    except AssayError as error:
        if path.endswith(".json"):  # the relatives of JSON have comments
            judged.report("settings-unreadable", Severity.INCOMPLETE, error.message, "")
        return judged.findings
    if basename(path) in MANIFESTS or path.endswith((".sigstore", ".sig", ".index.json")):
        judged.findings += judge_manifest(value, path)
    judged.document(value)
    return judged.findings


def _yaml(tree: Tree, path: str, told: bool) -> list[Finding]:  # noqa: ARG001, FBT001 - as above
    data = _utf8(tree.open(path).read(0, MAX_LONG_YAML))
    judged = _Judged(path, data)
    long = tree.size(path) > MAX_LONG_YAML
    if not long and not _YAML_WORDS.search(data):
        return []  # every manifest names paths
    if long or len(data) > MAX_YAML:
        data = data[:MAX_YAML]
        judged.report("settings-too-long", Severity.INCOMPLETE, f"longer than {MAX_YAML:,} bytes", "")
    walk = Walk()
    parts = path.endswith(".dvc") or basename(path) in _PARTS
    try:
        text = data.decode("utf-8-sig", "strict" if len(data) < MAX_YAML else "replace")
        for item in walk.items(text, path):
            if item.tag:
                judged.tag(item.tag, item.text, len(text[: item.at].encode()))
            if item.keys and item.text:
                judged.pair(item.keys[-1], item.text)
                if parts:
                    judged.findings += judge_part(item.keys[-1], item.text, path)
            if len(judged.findings) >= _MAX_FINDINGS:
                break
    except UnicodeDecodeError:
        judged.report("settings-unreadable", Severity.INCOMPLETE, "it is not text in UTF-8", "")
    except AssayError as error:
        judged.report("settings-unreadable", Severity.INCOMPLETE, error.message, "")
    if walk.expanded > MAX_EXPANDED:
        message = f"its aliases stand for more than {MAX_EXPANDED:,} values"
        judged.report("settings-alias-bomb", Severity.EXHAUST, message, "", effect="use up memory")
    return judged.findings


@dataclass
class _Judged:
    """One file of settings being judged."""

    path: str
    data: bytes = b""
    told: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def hub(self) -> bool:
        """Whether libraries of Hugging Face read the file by its name."""
        return bool(_HUB_CONFIGS.fullmatch(basename(self.path)))

    def report(
        self, rule: str, severity: Severity, message: str, evidence: str, *, effect: str = "", at: int | None = None
    ) -> None:
        """Add a finding about the file."""
        if at is None and evidence:
            found = self.data.find(evidence.encode())
            at = found if found >= 0 else None
        if len(self.findings) < _MAX_FINDINGS:
            self.findings.append(Finding(rule, severity, message, self.path, at, evidence[:200], effect))

    def document(self, value: Json) -> None:
        """Judge every key of a JSON document."""
        for count, (key, item) in enumerate(_pairs(value)):
            if count >= _MAX_VISITED:
                self.report("settings-too-long", Severity.INCOMPLETE, f"more than {_MAX_VISITED:,} settings", "")
                return
            if isinstance(item, str):
                self.pair(key, item)
            self._library(key, item)

    def pair(self, key: str, text: str) -> None:
        """Judge a key whose value is a text."""
        if key == "loader_module" and basename(self.path) == "MLmodel":
            return  # the format of MLflow weighs it
        if key in _CODE_KEYS or (key == "target" and "." in text and " " not in text):
            self._code(key, text)
        elif key in _ALWAYS_CODE:
            self.report("settings-names-code", Severity.EXECUTE, f"{key} names code to run", text, effect=_CALLS)
        elif (_CLASS_LIKE.search(key) and is_dangerous(text)) or _EXPRESSION.match(text):
            message = f"{key:.60} names code that runs programs or opens files, or is code"
            self.report("settings-names-code", Severity.EXECUTE, message, text, effect=_CALLS)
        elif key == "chat_template" and not self.hub:
            self.findings += judge_template(text, self.path, "chat template")
        elif self.hub and _FILE_KEY.fullmatch(key):
            self._reference(key, text)

    def tag(self, tag: str, text: str, at: int) -> None:
        """Judge a tag of a YAML node."""
        name = tag.removeprefix("tag:yaml.org,2002:")
        if name.startswith("python/") or "python/" in name:
            plain = name in ("python/tuple", "python/none", "python/str", "python/unicode", "python/bool", "python/int")
            if not plain and name not in (
                "python/float",
                "python/list",
                "python/dict",
                "python/long",
                "python/complex",
            ):
                message = "a tag builds an object of Python"
                self.report("settings-yaml-object", Severity.EXECUTE, message, name, effect=_CALLS, at=at)
            return
        kind, _, target = name.removeprefix("!").partition(":")
        if kind in ("new", "name", "apply", "module", "applyref") and target:
            weight = weigh_name(target)
            if weight is not None:
                severity = Severity.EXECUTE if weight is Severity.EXECUTE else Severity.INCOMPLETE
                message = f"a tag names code to call: {target:.100}"
                self.report("settings-yaml-object", severity, message, name, effect=_CALLS, at=at)
        elif kind == "include":
            reason = escaping(target or text)
            if reason:
                message = f"a tag includes a file that {reason}"
                self.report("settings-path-escape", Severity.READ, message, target or text, at=at)
        elif name.startswith("!") and kind not in ("ref", "copy", "tuple", "PLACEHOLDER", "list", ""):
            message = "a tag asks for a constructor that only the program it was written for knows"
            self.report("settings-yaml-tag", Severity.INCOMPLETE, message, name, at=at)

    def _code(self, key: str, target: str) -> None:
        weight = weigh_name(target)
        if weight is None:
            return
        dangerous = weight is Severity.EXECUTE
        severity = Severity.EXECUTE if dangerous else Severity.INCOMPLETE
        known = "runs programs or opens files" if dangerous else "nobody here knows"
        message = f"{key} names code to call that {known}: {target:.100}"
        self.report("settings-names-code", severity, message, target, effect=_CALLS)

    def _library(self, key: str, item: Json) -> None:
        """Keys that the libraries of Hugging Face act on."""
        if key == "auto_map" and item and not self.told:
            message = "it maps classes to code that comes with the model"
            self.report("settings-auto-map", Severity.EXECUTE, message, str(item), effect=_OWN)
        elif key == "custom_pipelines" and item and not self.told:
            self.report("settings-auto-map", Severity.EXECUTE, "it brings pipelines of its own", str(item), effect=_OWN)
        elif key in _ALWAYS_CODE and item and not isinstance(item, str):
            self.report("settings-names-code", Severity.EXECUTE, f"{key} names code to run", str(item), effect=_CALLS)
        elif key == "trust_remote_code" and item and self.hub:
            message = "it switches on code that comes with models, whatever the caller says (CVE-2026-5241)"
            self.report("settings-trusts-code", Severity.EXECUTE, message, f"{key}: {item}", effect=_OWN)
        elif "implementation" in key or "kernel" in key:
            for text in _texts(item):
                if _REPOSITORY.fullmatch(text) and text.rpartition("|")[2] not in _PLAIN_ATTENTION:
                    message = f"{key:.60} names code in a repository, which is fetched and run (CVE-2026-4372)"
                    self.report("settings-hub-code", Severity.EXECUTE, message, text, effect=_FETCHES)

    def _reference(self, key: str, text: str) -> None:
        """A file or model that settings of the hub's libraries name."""
        if _REMOTE.match(text):
            if not key.endswith(("url", "uri")):
                message = f"{key:.60} is an address: reading the model fetches from it"
                self.report("settings-remote-reference", Severity.NETWORK, message, text, effect=_FROM)
            return
        inside = text.replace("\\", "/")
        absolute = inside.startswith(("/", "~")) or inside[1:3] == ":/"
        if absolute and (_LEFTOVER.fullmatch(basename(inside)) or key in ("_name_or_path", "name_or_path")):
            message = f"{key:.60} says where a file lay on another machine"
            self.report("settings-leftover-path", Severity.NOTE, message, text)
        elif absolute or ".." in inside.split("/"):
            message = f"{key:.60} names a file outside the artifact"
            self.report("settings-path-escape", Severity.READ, message, text, effect="read a file outside the artifact")


_MARKS = {
    b"\xff\xfe\0\0": "utf-32",  # before UTF-16, whose mark it begins with
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_CALLS = "import and call what a file of settings names"
_OWN = "run Python source from the artifact"
_FETCHES = "fetch code from the network and run it"
_FROM = "fetch from the network"


def _utf8(data: bytes) -> bytes:
    """A text in UTF-16 or UTF-32 with its mark, which readers of JSON and YAML take, in UTF-8; else the bytes."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace").encode()
    return data


def _pairs(value: Json) -> Iterator[tuple[str, Json]]:
    """Every key with its value, lists under the key they are the value of; of vocabularies only what holds text."""
    waiting: list[tuple[str, Json]] = [("", value)]
    while waiting:
        key, item = waiting.pop()
        if key:
            yield key, item
        if isinstance(item, Mapping):
            words = key in ("vocab", "label2id", "id2label") or (len(item) > 5000 and key == "")
            waiting.extend(
                (str(name), inner)
                for name, inner in item.items()
                if not words or isinstance(inner, (str, Mapping, list))
            )
        elif isinstance(item, Sequence) and not isinstance(item, str) and key not in ("vocab", "merges"):
            waiting.extend((key, inner) for inner in item[:5000])
            waiting.extend((key, inner) for inner in item[5000:] if isinstance(inner, Mapping))


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = list(value.values()) if isinstance(value, Mapping) else value
    return [item for item in inner if isinstance(item, str)] if isinstance(inner, list) else []
