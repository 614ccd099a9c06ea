"""Files that no format describes: which of them do nothing, which are programs, and which run without being asked.

Told by content; a name counts only where a program acts on the name (``sitecustomize.py``, ``.git/hooks``).
"""

from __future__ import annotations

import json
import pickletools
import re
from collections.abc import Mapping, Sequence
from posixpath import basename

from assay.audit.code_names import is_dangerous
from assay.audit.git_files import git_data
from assay.audit.jinja import judge_template
from assay.audit.media import active_pdf, active_picture, medium
from assay.audit.programs import is_source, program, script
from assay.audit.requirements import FILE, judge_requirements
from assay.spec.finding import Finding, Severity
from assay.spec.inspection import Inspection
from assay.trees import Tree

MAX_TEXT = 64 << 20
"""Bytes of a text that are read to see whether it is one."""
_LOOKED_AT = 1 << 20
_MAX_FINDINGS = 1_000

_BY_ITSELF = {
    "sitecustomize.py": "Python runs it whenever it starts beside it",
    "usercustomize.py": "Python runs it whenever it starts beside it",
    "conftest.py": "pytest runs it in every folder it looks through",
    "setup.py": "pip runs it when the folder is installed",
    ".envrc": "direnv runs it when somebody enters the folder",
    ".pythonrc.py": "Python runs it when it is started by hand",
    "handler.py": "servers of Hugging Face models import it and call what is in it",
    "noxfile.py": "nox runs it",
}
_PLACED = (
    (re.compile(r"(?:.*/)?\.git/hooks/(?!.*\.sample$)[^/]+|(?:.*/)?\.husky/[^/.]+"), "git runs it"),
    (re.compile(r"(?:.*/)?(?:site|user)customize/__init__\.py"), "Python runs it whenever it starts beside it"),
    (re.compile(r"(?:.*/)?custom_generate/generate\.py"), "transformers runs it when the model generates"),
    (re.compile(r"(?:.*/)?code/inference\.py"), "servers of SageMaker import it"),
    (re.compile(r"(?:.*/)?\.ipython/profile_[^/]+/startup/.+\.i?py"), "IPython runs it when it starts"),
)
_GIT_PROGRAM = re.compile(
    rb"^[ \t]*(?:fsmonitor|sshCommand|hooksPath|pager|editor|askPass|textconv|smudge|clean|process|helper)"
    rb"[ \t]*=[ \t]*\S",
    re.MULTILINE | re.IGNORECASE,
)
_AUTO_TASK = re.compile(rb'"runOn"\s*:\s*"folderOpen"')
_DATASET = re.compile(
    rb"^(?:[ \t]*class \w+\([^)]{0,200}?|from datasets\b.{0,200}?)\b(?:Generator|Arrow|Beam)BasedBuilder", re.MULTILINE
)
_START_LINE = re.compile(rb"^(?:import[ \t]|exec)", re.MULTILINE)
_WEIGHTS = tuple(
    ".bin .pt .pth .ckpt .safetensors .h5 .hdf5 .keras .onnx .gguf .ggml .pkl .pickle .joblib .npy .npz .pb .tflite "
    ".model .msgpack .ot .mlmodel .mar .nemo .params .weights .caffemodel .cbm .ubj .bst .dat .dill .cloudpickle "
    ".pdparams .rds .rda .rdata .t7".split()
)
_TEXT_ENDINGS = (
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".toml",
    ".cfg",
    ".ini",
    ".rst",
    ".log",
)
_ENTITY = re.compile(rb"<!ENTITY[^>]{0,200}|<xi:include\b[^>]{0,200}", re.IGNORECASE)
_GLOBAL = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")
_LFS = b"version https://git-lfs.github.com/spec/"
_ASCII = bytes(range(128)) + b"?" * 128
"""Letters beyond ASCII as others: pickletools refuses some that loaders take, told another encoding."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class FilesAuditor:
    """Looks at what no format describes, and says what of it does nothing."""

    name = "files"

    def audit(self, tree: Tree, inspection: Inspection) -> Sequence[Finding]:
        """Programs and files that run by themselves, anywhere; source code, broken links to weights and the like."""
        unknown = set(inspection.unknown)
        found: list[Finding] = []
        for path in tree.paths:
            if not tree.size(path):
                continue
            here = _anywhere(tree, path)
            found += here or (_undescribed(tree, path) if path in unknown else [])
            if len(found) > _MAX_FINDINGS:
                message = f"more than {_MAX_FINDINGS:,} findings: the rest of the files is not looked at"
                found.append(Finding("file-too-many", Severity.INCOMPLETE, message, path))
                break
        return found

    def inert(self, tree: Tree, paths: Sequence[str]) -> Sequence[str]:
        """Texts that are data or prose, or source that nothing runs by itself; whole pictures, sounds and tables."""
        return [path for path in paths if _inert(tree, path)]


def _anywhere(tree: Tree, path: str) -> list[Finding]:
    """What an entry is, whether or not a format claims it."""
    if what := program(tree, path):
        return [
            _finding("file-program", Severity.EXECUTE, f"this is {what}", path, effect="run machine code or bytecode")
        ]
    name = basename(path)
    why = _BY_ITSELF.get(name) or next((why for place, why in _PLACED if place.fullmatch(path)), "")
    if why and _text(tree, path) is not None:
        effect = (
            f"run Python source from the artifact ({tree.size(path):,} bytes)"
            if name.endswith(".py")
            else "run a script"
        )
        return [
            _finding("file-runs-by-itself", Severity.EXECUTE, f"{why} ({tree.size(path):,} bytes)", path, effect=effect)
        ]
    if path.endswith(".git/config") or name == ".gitconfig":
        return _matching(tree, path, _GIT_PROGRAM, "git is told to run a program")
    if path.endswith(".vscode/tasks.json"):
        return _matching(tree, path, _AUTO_TASK, "the editor is told to run a task when the folder is opened")
    if name in ("pip.conf", "pip.ini", ".pypirc", ".npmrc", ".condarc"):
        message = "a package manager that starts here takes packages from where this says"
        return [_finding("file-package-source", Severity.NETWORK, message, path)]
    if name.endswith(".pth") and (data := _text(tree, path)) is not None:
        return _path_file(data, path)
    if name == "config.pbtxt" and b"python" in (data := tree.open(path).read(0, _LOOKED_AT)) and b"backend" in data:
        return _server(tree, path)
    return []


def _undescribed(tree: Tree, path: str) -> list[Finding]:
    """What an entry is that no format claims."""
    if tree.head(path).startswith(b"%PDF-"):
        return _document(tree, path)
    data = _text(tree, path)
    if data is None:
        return []
    if FILE.fullmatch(basename(path)):
        return judge_requirements(tree, path)
    if data.startswith(_LFS):
        message = "only a pointer is here: the file itself was not fetched from the large file storage"
        return [_finding("file-lfs-pointer", Severity.INCOMPLETE, message, path)]
    if basename(path).lower().endswith(_WEIGHTS):
        return _disguised(data, path)
    if path.lower().endswith((".jinja", ".jinja2", ".j2")):
        return judge_template(data.decode("utf-8-sig", "replace"), path, "template")
    if path.lower().endswith(".svg") and (what := active_picture(data)):
        return [
            _finding("file-active-picture", Severity.MISLEAD, "a drawing that runs code where it is shown", path, what)
        ]
    if data.lstrip().startswith(b"<") and (entity := _ENTITY.search(data)):
        message = "an XML document that stands for more than it says, or for other files"
        seen = entity[0].decode("utf-8", "replace")
        return [_finding("file-xml-entity", Severity.READ, message, path, seen, effect=_READS, at=entity.start())]
    if _DATASET.search(data) and path.endswith(".py"):
        message = f"a script that loads a data set ({len(data):,} bytes): the library of data sets runs it"
        return [_finding("file-dataset-script", Severity.EXECUTE, message, path, effect=_RUNS_SOURCE)]
    if is_source(path) or script(data):
        return [_source(data, path)]
    return []


def _document(tree: Tree, path: str) -> list[Finding]:
    if what := active_pdf(tree.open(path)):
        return [_finding("file-active-document", Severity.MISLEAD, "a PDF that acts when it is opened", path, what)]
    return []


def _disguised(data: bytes, path: str) -> list[Finding]:
    what = script(data)
    if what:
        message = f"named as weights, but it is {what}"
        return [_finding("file-disguised-script", Severity.EXECUTE, message, path, effect="run a script")]
    return []


def _source(data: bytes, path: str) -> Finding:
    size = len(data)
    if path.endswith(".ipynb"):
        cells = _cells(data)
        size = sum(len(cell) for cell in cells)
        message = f"a notebook with {len(cells):,} cells of code ({size:,} bytes); nothing runs it by itself"
    else:
        message = f"{size:,} bytes of source code; nothing here runs it by itself"
    return _finding("file-source-code", Severity.NOTE, message, path)


def _cells(data: bytes) -> list[str]:
    """The cells of code of a notebook, none when it cannot be read."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return []
    cells = body.get("cells") if isinstance(body, Mapping) else None
    texts = [
        cell.get("source", "") for cell in cells or () if isinstance(cell, Mapping) and cell.get("cell_type") == "code"
    ]
    return ["".join(map(str, text)) if isinstance(text, list) else str(text) for text in texts]


def _path_file(data: bytes, path: str) -> list[Finding]:
    """A ``.pth`` file that is text: Python reads it where it looks for packages."""
    if found := _START_LINE.search(data):
        message = "Python runs its lines that begin with import whenever it starts with this folder among its packages"
        line = data[found.start() : found.start() + 200].splitlines()[0].decode("utf-8", "replace")
        return [
            _finding(
                "file-runs-by-itself",
                Severity.EXECUTE,
                message,
                path,
                line,
                effect="run a line of Python",
                at=found.start(),
            )
        ]
    message = "named as weights, but it is a list of folders that Python would look for packages in"
    return [_finding("file-path-list", Severity.MISLEAD, message, path)]


def _server(tree: Tree, path: str) -> list[Finding]:
    """A model of Triton's Python backend."""
    folder = path.rpartition("/")[0]
    if b"default_model_filename" in tree.open(path).read(0, _LOOKED_AT):
        message = "the server runs a file of another name as the model"
        return [_finding("file-runs-by-itself", Severity.EXECUTE, message, path, effect=_RUNS_SOURCE)]
    return [
        _finding("file-runs-by-itself", Severity.EXECUTE, "the server runs it as the model", other, effect=_RUNS_SOURCE)
        for other in tree.under(folder)
        if basename(other) == "model.py"
    ]


def _matching(tree: Tree, path: str, pattern: re.Pattern[bytes], message: str) -> list[Finding]:
    found = pattern.search(tree.open(path).read(0, _LOOKED_AT))
    if not found:
        return []
    seen = found[0].strip().decode("utf-8", "replace")
    return [
        _finding("file-runs-by-itself", Severity.EXECUTE, message, path, seen, effect="run a program", at=found.start())
    ]


_READS = "read a file outside the artifact, or use up memory"
_RUNS_SOURCE = "run Python source from the artifact"


def _finding(
    rule: str,
    severity: Severity,
    message: str,
    path: str,
    evidence: str = "",
    *,
    effect: str = "",
    at: int | None = None,
) -> Finding:
    return Finding(rule, severity, message, path, at, evidence[:200], effect)


def _inert(tree: Tree, path: str) -> bool:
    if tree.head(path).startswith(b"%PDF-"):
        return not active_pdf(tree.open(path))
    if program(tree, path):
        return False
    data = _text(tree, path)
    if data is None:
        return bool(medium(tree, path)) or git_data(tree, path)
    name = basename(path).lower()
    if name.endswith(_WEIGHTS) or data.startswith(_LFS):
        return False
    return not _unpickles(data, strict=not name.endswith(_TEXT_ENDINGS) and not is_source(path))


def _text(tree: Tree, path: str) -> bytes | None:
    """The entry's bytes when they are text in UTF-8 (or UTF-16 with its mark); None when they are not."""
    head = tree.head(path)
    size = tree.size(path)
    if size > MAX_TEXT:
        return None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return tree.open(path).read().decode("utf-16").encode()
        except UnicodeError:
            return None
    if _CONTROL.search(head):
        return None
    data = head if size <= len(head) else tree.open(path).read()
    if _CONTROL.search(data):
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data if _western(data) else None
    return data


def _western(data: bytes) -> bool:
    """Whether it is an old text in one byte per letter: nearly everything ASCII, in lines of readable length."""
    odd = sum(1 for byte in data[:_LOOKED_AT] if byte >= 0x80)
    return odd * 10 < min(len(data), _LOOKED_AT) and b"\n" in data[:2000]


def _unpickles(data: bytes, *, strict: bool) -> bool:
    """Whether a text is a pickle of the first protocol, which is text.

    Args:
        data: the text.
        strict: whether a call is enough, as in a file that is not named as text; else only a pickle that comes to its
            end is one, or one that names what is known to be dangerous.
    """
    named = called = dangerous = False
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(data.translate(_ASCII))):
            if code.name in ("GLOBAL", "INST"):
                named |= bool(_GLOBAL.fullmatch(str(argument)))
                dangerous |= is_dangerous(str(argument).replace(" ", "."))
            called |= code.name in ("INST", "REDUCE", "OBJ", "BUILD")
            if code.name == "STOP":
                return named
            if count > 10_000:
                break
    except (ValueError, IndexError, OverflowError, UnicodeError):
        pass
    # A list of words can begin as a pickle does (cat, dog, bird); it does not name os.system, and comes to no end.
    return named and ((strict and called) or dangerous)
