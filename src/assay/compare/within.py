"""Two files whose bytes differ: what differs in them, by the comparison that understands them.

What none understands is compared between its tensors, and by what its description says; where that does not explain
the difference, it is said to be not understood, which counts as behaviour.
"""

from __future__ import annotations

from posixpath import splitext

from assay.compare.archives import Part, compare_archives
from assay.compare.boosted import BOOSTERS, compare_boosters
from assay.compare.covered import Cover, descriptions, rest_digest, window_digest
from assay.compare.described import compare_described
from assay.compare.documents import compare_documents, is_document
from assay.compare.gathering import Gathered, Judge, Judgement
from assay.compare.gguf import compare_gguf
from assay.compare.hdf5 import compare_hdf5
from assay.compare.judging import judge_pickled, judge_script, judge_torch
from assay.compare.onnx import compare_onnx
from assay.compare.pairing import kind_of_format
from assay.compare.pickled import compare_layouts, compare_pickles
from assay.compare.requirements import compare_requirements
from assay.compare.roles import area_of, decided, is_requirements, is_tokenizer
from assay.compare.settings_files import judge_keras, judge_settings, safetensors_metadata
from assay.compare.sides import Compared
from assay.compare.skops import compare_arrays, compare_schemas
from assay.compare.texts import MAX_TEXT, diff, readable
from assay.compare.tokenizers import compare_tokenizer_file
from assay.compare.values import changes
from assay.containers.archive import is_archive
from assay.containers.compressed import peek
from assay.containers.hdf5.reader import is_hdf5
from assay.containers.pickle.parse import looks_like_pickle
from assay.errors import AssayError
from assay.spec.changes import Area, Effect, ItemKind
from assay.spec.description import Description

HEAD = 4096
_PACKED = Judgement(Area.FORMAT, Effect.NOTE, "apart from its tensors the file says the same")
_NOT_READ = Judgement(
    Area.FILES,
    Effect.BEHAVIOUR,
    "its tensors are not compared: the model's weights are taken from another file",
)
_LOOSE = Judgement(Area.CONFIG, Effect.BEHAVIOUR, "arrays that no tensor stands for")
_TORCH = frozenset({"pytorch", "torchserve", "torch-export", "torch-package"})
_METADATA = Judgement(Area.METADATA, Effect.NOTE, "about the weights; what reads them does not change by it")
_FRAMEWORK = Judgement(Area.CONFIG, Effect.BEHAVIOUR, "readers take the layout of weights from it")


def compare_files(gathered: Gathered, old: Compared, path: str, new: Compared, other: str) -> None:
    """Note what changed between two files whose bytes differ.

    Args:
        gathered: where to note it.
        old, path: the side and the entry before.
        new, other: the side and the entry now; items carry its name.
    """
    before, after = descriptions(old, path), descriptions(new, other)
    kinds = [
        next((found.format for found in side if len(found.paths) >= 1), "") for side in (_own(before), _own(after))
    ]
    part = Part(
        other,
        old.tree.open(path),
        new.tree.open(other),
        Cover.of(old, path),
        Cover.of(new, other),
        kinds[1] if kind_of_format(kinds[0]) == kind_of_format(kinds[1]) else "",
    )
    count = len(gathered.items)
    if not _known(gathered, part, judge_settings(other, old, new)):
        _otherwise(gathered, part, _own(before), _own(after))
    told = gathered.items[count:]
    if _left_out(old, before) or _left_out(new, after):
        if decided(other) is None and not any(item.effect is Effect.BEHAVIOUR for item in told):
            gathered.add(_NOT_READ, other, ItemKind.CHANGED, text="the content differs")
    elif not (part.before.complete and part.after.complete) and decided(other) is None:
        if not any(item.effect is Effect.BEHAVIOUR for item in told):
            gathered.unread(other, "a description that could not be finished")
    elif not told and not _same_layout(part):
        gathered.add(_PACKED, other, ItemKind.CHANGED)


def _left_out(side: Compared, found: list[Description]) -> bool:
    """Whether a file has tensors that nobody compares, because the model's weights are taken from others."""
    weights = side.inspection.weights
    tensors = [one for one in found if one.tensors]
    return bool(weights) and bool(tensors) and not any(one is other for one in tensors for other in weights)


def compare_member(gathered: Gathered, part: Part) -> None:
    """Note what changed between two members of archives."""
    if not _known(gathered, part, None):
        gathered.unread(part.path, "no comparison knows what it holds")


def _known(gathered: Gathered, part: Part, judge: Judge | None) -> bool:
    """Compare by the first comparison that understands the content; whether there was one."""
    place = part.place
    role = decided(place)
    if role is not None:
        gathered.add(role, part.path, ItemKind.CHANGED, part.old.size, part.new.size, _as_text(part))
    elif is_requirements(place):
        compare_requirements(gathered, part.old, part.new, part.path)
    elif is_tokenizer(place):
        compare_tokenizer_file(gathered, part.old, part.new, part.path)
    elif part.format == "onnx" and "!" not in part.path and (place.endswith(".onnx") or _leads(part)):
        compare_onnx(gathered, part)
    elif part.format in BOOSTERS:
        compare_boosters(gathered, part.old, part.new, part.path, part.format)
    else:
        return _by_content(gathered, part, judge)
    return True


def _leads(part: Part) -> bool:
    """Whether the entry is the model itself and not data beside it."""
    return part.old.read(0, 1) == b"\x08" and part.new.read(0, 1) == b"\x08"


def _by_content(gathered: Gathered, part: Part, judge: Judge | None) -> bool:
    heads = [window.read(0, HEAD) for window in (part.old, part.new)]
    if part.format == "safetensors" and all(head[8:9] == b"{" for head in heads):
        _safetensors(gathered, part)
    elif all(map(is_archive, heads)):
        loose = compare_archives(gathered, part, compare_member)
        if loose and not (part.format == "skops" and compare_arrays(gathered, part)):
            gathered.add(_LOOSE, part.path, ItemKind.CHANGED, text="the content differs")
    elif part.format in _TORCH and any(map(is_archive, heads)):
        compare_layouts(gathered, part, judge_torch(part.path))
    elif all(map(is_hdf5, heads)):
        compare_hdf5(gathered, part)
    elif all(head[:4] == b"GGUF" for head in heads):
        compare_gguf(gathered, part)
    elif part.format == "skops" and part.place == "schema.json":
        compare_schemas(gathered, part.old, part.new, part.path)
    elif is_document(part.place):
        compare_documents(gathered, part.old, part.new, part.path, judge or _inside_judge(part))
    elif all(looks_like_pickle(peek(head)[0]) for head in heads) and not _is_code(part.place):
        compare_pickles(gathered, (part.old, part.before), (part.new, part.after), part.path, _pickle_judge(part))
    else:
        return _text(gathered, part)
    return True


def _inside_judge(part: Part) -> Judge | None:
    """How settings inside an archive are judged; None for the general way."""
    if part.format.startswith("keras"):
        return judge_keras(part.place)
    return None


def _pickle_judge(part: Part) -> Judge:
    if part.format == "torchscript":
        return judge_script(part.path)
    return judge_torch(part.path) if part.format in _TORCH else judge_pickled(part.path)


def _text(gathered: Gathered, part: Part) -> bool:
    """Readable text as a unified difference."""
    weights = (part.before.specs or part.after.specs) and "!" not in part.path
    if weights or max(part.old.size, part.new.size) > MAX_TEXT:
        return False
    text = _as_text(part)
    if text is None:
        return False
    area = Area.TOKENIZER if splitext(part.place)[1] in {".jinja", ".jinja2"} else area_of(part.place)
    gathered.add(Judgement(area), part.path, ItemKind.CHANGED, text=text)
    return True


def _as_text(part: Part) -> str | None:
    """The difference of two texts; None where one is none, or too long."""
    if max(part.old.size, part.new.size) > MAX_TEXT:
        return None
    texts = [readable(window.read()) for window in (part.old, part.new)]
    return diff(texts[0], texts[1]) if texts[0] is not None and texts[1] is not None else None


def _safetensors(gathered: Gathered, part: Part) -> None:
    try:
        one, other = (safetensors_metadata(window) for window in (part.old, part.new))
    except AssayError as error:
        gathered.unread(part.path, error.message)
        return
    found, cut = changes(one, other)
    gathered.changes(part.path, found, lambda change: _FRAMEWORK if change.keys == ("format",) else _METADATA, cut=cut)


def _otherwise(gathered: Gathered, part: Part, before: list[Description], after: list[Description]) -> None:
    """Compare what lies between tensors, and what the descriptions say."""
    if _same_layout(part):
        return
    if part.path.endswith(".index") and part.format.startswith("tensorflow"):
        why = "an index with checksums, which follows from the tensors"
        gathered.add(Judgement(Area.FORMAT, Effect.NOTE, why), part.path, ItemKind.CHANGED)
        return
    if part.old.size == part.new.size and window_digest(part.old) == window_digest(part.new):
        return
    told = False
    if part.format and before and after:
        told = compare_described(gathered, before[0], after[0], part.path)
    if not told:
        gathered.unread(
            part.path,
            "the bytes beside its tensors differ" if part.after.specs else "no comparison knows what it holds",
        )


def _same_layout(part: Part) -> bool:
    """Whether everything but tensors is byte for byte the same, and every tensor lies plainly."""
    if not part.before.places or not part.after.places or part.before.shapes or part.after.shapes:
        return False
    one = rest_digest(part.old.source, part.before)
    return one is not None and one == rest_digest(part.new.source, part.after)


def _own(found: list[Description]) -> list[Description]:
    """The descriptions of the file itself before those of a folder it is in."""
    return sorted(found, key=lambda one: len(one.paths))


def _is_code(place: str) -> bool:
    return area_of(place) is Area.CODE
