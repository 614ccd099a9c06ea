"""sentence-transformers: the whole pipeline of modules from a local folder, no code of the repository."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from assay.errors import BadFormat, InvalidInput, MissingDependency, Refused
from assay.loaders.frameworks import is_instance, need, reason
from assay.loaders.hazards import MAX_SETTINGS, refuse_hazards
from assay.loaders.places import directory
from assay.loaders.reproducible import sort_safetensors_header
from assay.loaders.transformers import check_settings, leads_outside
from assay.ports.loaders import Saved
from assay.spec.description import Description

_HINT = "load it with sentence-transformers where you trust its code; assay.open reads its tensors"
_IMPORTED = frozenset({"activation_function", "activation_fn", "sbert_ce_default_activation_function"})
_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.\w+\.)?[A-Z]\w*|sentence_transformers\.[\w.]+Tokenizer", re.ASCII)
_ROUTERS = ("router_config.json", "config.json")
"""Files in which a module names modules of its own: today's name, and that of ``Asym``."""
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
"""Files that may be longer than settings are, and in which the library looks for no class."""
OLDEST = 6
"""First release of the library that itself refuses modules outside its own, at whatever depth they are named."""
_CLASSES = {
    "SentenceTransformer": "sentence_transformers",
    "CrossEncoder": "sentence_transformers",
    "SparseEncoder": "sentence_transformers",
}


class SentenceTransformersLoader:
    """Folders with a ``modules.json``."""

    formats: ClassVar[Sequence[str]] = ("sentence-transformers",)

    def load(self, folder: Path, description: Description, descriptions: Sequence[Description]) -> object:  # noqa: ARG002 - the port's shape
        """A ``SentenceTransformer`` (or ``SparseEncoder``, ``CrossEncoder``, as the folder says) on the CPU.

        Raises:
            Refused: a module is a class outside sentence-transformers (code ``custom-code`` or ``unsafe-model``).
            BadFormat: the library cannot build it.
            MissingDependency: the library is not installed, or is older than 6.0.
        """
        home = directory(folder, description, "modules.json", "config_sentence_transformers.json")
        refuse_hazards(description, hint=_HINT, ignore=("huggingface-auto-map",))
        names = _check_modules(home)
        library = need("sentence_transformers", distribution="sentence-transformers", extra="transformers",
                       what="load a sentence-transformers model")  # fmt: skip
        _check_version(library)
        for file, module in names:
            _check_class(module, file)
        stated = _json(home / "config_sentence_transformers.json")
        name = stated.get("model_type") if isinstance(stated, dict) else None
        cls = getattr(library, name if name in _CLASSES else "SentenceTransformer")
        try:
            return cls(str(home), device="cpu", local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise BadFormat(f"sentence-transformers cannot build the model ({reason(error)})") from error


class SentenceTransformersSaver:
    """Live ``SentenceTransformer`` objects and their kin."""

    framework = "sentence-transformers"

    def accepts(self, model: object) -> bool:
        """A model of the library."""
        return is_instance(model, *_names())

    def save(self, model: object, folder: Path) -> Saved:
        """Write the folder the library reads, weights as safetensors, without a generated model card.

        Raises:
            InvalidInput: the library cannot save it (code ``unsaveable``).
        """
        try:
            model.save_pretrained(str(folder), create_model_card=False)  # type: ignore[attr-defined] # accepts() says so
        except Exception as error:
            raise InvalidInput(f"the model cannot be saved ({reason(error)})", code="unsaveable") from error
        for file in folder.rglob("*.safetensors"):
            sort_safetensors_header(file)
        return Saved(("sentence_transformers", "transformers", "torch"))


def _names() -> tuple[str, ...]:
    homes = ("SentenceTransformer", "sentence_transformer.model", "sentence_transformer.SentenceTransformer",
             "sparse_encoder.model", "sparse_encoder.SparseEncoder", "cross_encoder.model",
             "cross_encoder.CrossEncoder")  # fmt: skip
    return tuple(f"sentence_transformers.{home}.{name}" for home in homes for name in _CLASSES)


def _check_version(library: Any) -> None:
    """See that the library refuses foreign modules, too.

    Raises:
        MissingDependency: it is a release that imports whatever class a local folder names.
    """
    stated = str(getattr(library, "__version__", ""))
    major = stated.partition(".")[0]
    if not major.isdecimal() or int(major) < OLDEST:
        raise MissingDependency(
            f"sentence-transformers {OLDEST}.0 is needed to load a sentence-transformers model, found {stated:.40}: "
            "older releases import whatever class a folder names",
            hint=f"pip install 'sentence-transformers>={OLDEST}.0'",
            dependency="sentence-transformers",
        )


def _check_class(name: str, file: str) -> None:
    """See that a module is one of the library's own layers: the library would call ``load`` of anything.

    Raises:
        Refused: it is something else (code ``custom-code``).
        BadFormat: the installed library does not have it.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BadFormat(f"the installed sentence-transformers has no {name:.120}", code="library-mismatch") from error
    bases = {f"{cls.__module__}.{cls.__qualname__}" for cls in getattr(found, "__mro__", ())}
    own = getattr(found, "__module__", "").startswith("sentence_transformers.")
    whole = any(base.rpartition(".")[2] in _CLASSES for base in bases)
    if not own or whole or "torch.nn.modules.module.Module" not in bases:
        raise Refused(
            f"{file} names what is no module of sentence-transformers: {name:.120}",
            code="custom-code",
            hint=_HINT,
        )


def _check_activations(folder: Path) -> None:
    """See that settings name activations of ``torch.nn`` only: the library imports and calls what they name.

    Raises:
        Refused: one names something else (code ``custom-code``).
    """
    for file in sorted(folder.glob("*.json")):
        found = _json(file)
        nested = found.get("sentence_transformers") if isinstance(found, dict) else None
        for settings in (found, nested):
            for key, value in settings.items() if isinstance(settings, dict) else ():
                imported = key in _IMPORTED or (key == "tokenizer_class" and "." in str(value))
                if imported and isinstance(value, str) and not _ACTIVATION.fullmatch(value):
                    raise Refused(
                        f"{file.name} names what the library would import: {key} is {value!r:.100}",
                        code="custom-code",
                        hint=_HINT,
                    )


def _check_modules(home: Path) -> list[tuple[str, str]]:
    """Look through all settings in and below a folder; the classes that they name, each with the file it stands in.

    Raises:
        Refused: a module is none of the library's, or lies elsewhere; or settings ask for code (codes ``custom-code``,
            ``path-escape``).
        BadFormat: settings cannot be read.
    """
    names: list[tuple[str, str]] = []
    modules = _json(home / "modules.json")
    for module in modules if isinstance(modules, list) else []:
        kind = module.get("type") if isinstance(module, dict) else None
        place = module.get("path", "") if isinstance(module, dict) else None
        names.append(("modules.json", _own_class(kind, "modules.json")))
        if not isinstance(place, str) or leads_outside(place):
            raise Refused(f"modules.json leads outside the folder: {place!r:.120}", code="path-escape")
    for folder in _folders(home):
        check_settings(folder)
        _check_activations(folder)
        names += _inner_modules(folder)
    return names


def _inner_modules(folder: Path) -> Iterator[tuple[str, str]]:
    """The classes of modules that a module of this folder has inside, each with the file that names it.

    The library imports each of them, and calls its ``load`` with the folder that the name beside it leads to.
    """
    for file in _ROUTERS:
        found = _json(folder / file)
        types = found.get("types") if isinstance(found, dict) else None
        for place, kind in types.items() if isinstance(types, Mapping) else ():
            if leads_outside(place):
                raise Refused(f"{file} leads outside the folder: {place!r:.120}", code="path-escape")
            yield file, _own_class(kind, file)


def _own_class(kind: object, file: str) -> str:
    if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
        raise Refused(
            f"{file} names a class outside sentence-transformers: {kind!r:.120}", code="custom-code", hint=_HINT
        )
    return kind


def _folders(home: Path) -> Iterator[Path]:
    """The folder and all below it, those behind links too, each once."""
    seen: set[str] = set()
    for parent, folders, _ in os.walk(home, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(parent)


def _json(file: Path) -> object:
    if not file.is_file():
        return None
    if file.stat().st_size > MAX_SETTINGS:
        if file.name in _VOCABULARIES:
            return None
        raise BadFormat(f"{file.name} has more than {MAX_SETTINGS:,} bytes", path=file.name)
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFormat(f"{file.name} is not JSON ({error})", path=file.name) from error
