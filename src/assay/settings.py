"""Where things are and who is asking: an option beats the environment, that beats the project file, that the user file.

    option    --home DIR
    env       ASSAY_HOME or ASSAY_REGISTRY, ASSAY_ACTOR, ASSAY_POLICY
    project   assay.toml in the current folder or one above it
    user      config.toml in the user's configuration folder

Both files are TOML with the keys ``home`` and ``actor``; the user's also with ``policy``. The path that a command is
given is never searched for settings: nothing inside an artifact configures us. A project file may lie in the folder of
a model that somebody sent, so it cannot name a policy. It can hold rules for promotions (``docs/spec/promotion.md``),
which only ever add gates; they are read where an alias is moved.
"""

from __future__ import annotations

import getpass
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path

from platformdirs import user_config_path, user_data_path

from assay.errors import InvalidInput

_KEYS = frozenset({"home", "actor"})
_USER_KEYS = _KEYS | {"policy"}
_LONGEST_ACTOR = 200
PROJECT_FILE = "assay.toml"
PROJECT_RULES = ("promotion", "trust")
"""Tables of a project file that are read where an alias is moved."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What applies to this process.

    Args:
        home: the registry's folder.
        actor: who is asking, as written to history.
        policy: name of a built-in policy, or the file of one; None for the default.
        project: the project file, or None.
    """

    home: Path
    actor: str
    policy: str | None = None
    project: Path | None = None


def read_settings(
    *,
    home: str | Path | None = None,
    policy: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settle what applies.

    Args:
        home: as given on the command line or to the API.
        policy: the same.
        environ: the environment; the process's own when None.
        folder: where to look for the project file from; the current folder when None.

    Raises:
        InvalidInput: a settings file is not TOML or has an unknown key (code ``bad-settings``), or a registry is named
            that this release cannot reach (code ``remote-not-supported``).
    """
    env = os.environ if environ is None else environ
    project, user = _project_file(folder), user_config_path("assay", appauthor=False) / "config.toml"
    stated = [] if project is None else [_read(project, _KEYS, apart=PROJECT_RULES)]
    stated += [_read(user, _USER_KEYS)] if user.is_file() else []
    place = home or env.get("ASSAY_HOME") or env.get("ASSAY_REGISTRY") or _first(stated, "home")
    actor = _checked(env.get("ASSAY_ACTOR") or _first(stated, "actor") or "") or _user()
    rules = str(policy) if policy else env.get("ASSAY_POLICY") or _first(stated, "policy")
    if place is None:
        return Settings(user_data_path("assay", appauthor=False), actor, rules, project)
    if "://" in str(place):
        raise InvalidInput(
            f"registry {str(place).partition('://')[0]}:// is not supported yet; expected a folder",
            code="remote-not-supported",
            hint="set ASSAY_HOME to a folder on a local disk",
        )
    try:
        return Settings(Path(place).expanduser().absolute(), actor, rules, project)
    except (RuntimeError, OSError) as error:
        raise InvalidInput(
            f"the registry's folder {str(place)!r} cannot be found from here: {error}",
            code="bad-settings",
            hint="name it with its whole path",
        ) from error


def _project_file(folder: Path | None) -> Path | None:
    if folder is None:
        try:
            folder = Path.cwd()
        except FileNotFoundError:  # the current folder was removed: it has no settings
            return None
    found = next((at / PROJECT_FILE for at in (folder, *folder.parents) if lexists(at / PROJECT_FILE)), None)
    if found is not None and not found.is_file():  # a link to nothing: what it should say must not count as unsaid
        raise InvalidInput(
            f"settings file {found} cannot be read: it is not a file, or a link to none",
            code="bad-settings",
            hint="mend or remove it",
        )
    return found


def _read(file: Path, keys: frozenset[str], *, apart: tuple[str, ...] = ()) -> dict[str, str]:
    """The settings in a file; the tables *apart* are read elsewhere."""
    try:
        body = {key: value for key, value in tomllib.loads(file.read_text("utf-8")).items() if key not in apart}
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidInput(
            f"settings file {file} cannot be read: {error}",
            code="bad-settings",
            hint="it is TOML, such as: home = '/data/models'",
        ) from error
    unknown = sorted(set(body) - keys)
    if unknown or not all(isinstance(value, str) for value in body.values()):
        raise InvalidInput(
            f"settings file {file}: expected text for the keys {', '.join(sorted(keys))}, found {', '.join(body)}",
            code="bad-settings",
            hint=f"remove {', '.join(unknown)} from it" if unknown else "write the values in quotes",
        )
    if "home" in body:
        body["home"] = str(file.parent / Path(body["home"]).expanduser())
    if body.get("policy", "").endswith(".toml"):
        body["policy"] = str(file.parent / Path(body["policy"]).expanduser())
    return body


def _checked(actor: str) -> str:
    """Who is asking, without the blanks around it: with one more, the same person would count as another."""
    name = actor.strip()
    if not name.isprintable() or len(name) > _LONGEST_ACTOR:
        raise InvalidInput(
            f"not a name to be written to the history: {name!r:.80}; expected at most {_LONGEST_ACTOR} printable "
            "characters",
            code="bad-settings",
            hint="ASSAY_ACTOR, or actor in a settings file, says who is asking",
        )
    return name


def _first(stated: list[dict[str, str]], key: str) -> str | None:
    return next((values[key] for values in stated if values.get(key)), None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
