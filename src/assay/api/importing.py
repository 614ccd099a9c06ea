"""Bringing versions from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from assay.api.given import PathLike, warn
from assay.service.importing import Imported, Plan, run_import
from assay.settings import read_settings
from assay.wiring.auditing import guard_of
from assay.wiring.importing import Begun, Chosen, importer_of
from assay.wiring.places import open_registry


def import_from(
    source: PathLike,
    name: str | None = None,
    *,
    kind: str | None = None,
    models: str | Sequence[str] = (),
    prefix: str = "",
    commits: bool = False,
    aliases: bool = True,
    artifacts: Mapping[str, PathLike] | None = None,
    policy: PathLike | None = None,
    home: PathLike | None = None,
) -> Iterator[Imported]:
    """Import versions of another registry, cache, repository or folder, one after the other as they are iterated over.

    Args:
        source: an MLflow database URI, folder or server address, a Hugging Face cache, a git or DVC repository, or a
            folder of checkpoints.
        name: makes everything versions of this model; otherwise models keep their names.
        kind: what the source is (``mlflow``, ``huggingface-cache``, ``git``, ``dvc``, ``folder``); told from it when
            None.
        models: names there to take; all when empty.
        prefix: put before every name here.
        commits: whether every commit of a git repository is a version.
        aliases: whether aliases and stages are taken over.
        artifacts: of an MLflow registry: beginning of a location there (``mlflow-artifacts:``, ``s3://bucket``) to the
            folder that holds what lies there; nothing outside these folders is read then.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.

    Returns:
        Each version as it is done. What could not be imported has an ``error`` and does not stop the rest.

    Raises:
        NotFound: there is nothing at the source.
        InvalidInput: the source is of no known kind, or two models would get one name.
    """
    settings = read_settings(home=home, policy=policy)
    guard = guard_of(settings, warn=warn)
    wanted = (models,) if isinstance(models, str) else tuple(models)
    plan = Plan(name=name, prefix=prefix, aliases=aliases)
    folders = {location: Path(folder) for location, folder in (artifacts or {}).items()}
    importer = importer_of(str(source), kind=kind, commits=commits, artifacts=folders)
    begun = Begun(Chosen(importer, wanted))
    return run_import(open_registry(settings, create=True), begun, guard=guard, plan=plan)
