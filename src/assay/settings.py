"""Where things are and who is asking: an option beats the environment, that beats the project file, that the user file.

    option    --home DIR|URL
    env       ASSAY_HOME or ASSAY_REGISTRY, ASSAY_ACTOR, ASSAY_POLICY, ASSAY_CATALOG, ASSAY_STATE
    project   assay.toml in the current folder or one above it
    user      config.toml in the user's configuration folder

Both files are TOML with the keys ``home`` and ``actor``; the user's also with ``policy`` and ``catalog``. The path that
a command is given is never searched for settings: nothing inside an artifact configures us. A project file may lie in
the folder of a model that somebody sent, so it can name neither a policy nor a database, which would be sent the user's
password. It can hold rules for promotions (``docs/spec/promotion.md``), which only ever add gates; they are read where
an alias is moved.

A home is a folder, or a bucket by its URL. What is made from a bucket, and may be made again, lies in a local folder.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os.path import lexists
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_config_path, user_data_path, user_state_path

from assay.errors import InvalidInput, NotFound

_KEYS = frozenset({"home", "actor"})
_USER_KEYS = _KEYS | {"policy", "catalog"}
BUCKETS = ("s3", "file")
"""Schemes of buckets; ``file`` is a folder that is used like one, for trying things out."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_DATABASES = ("postgresql",)
_LONGEST_ACTOR = 200
PROJECT_FILE = "assay.toml"
PROJECT_RULES = ("promotion", "trust")
"""Tables of a project file that are read where an alias is moved."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What applies to this process.

    Args:
        home: the registry's folder; for a bucket the local folder for what is made from it.
        actor: who is asking, as written to history.
        policy: name of a built-in policy, or the file of one; None for the default.
        project: the project file, or None.
        bucket: URL of the bucket that is the registry; None for a folder.
        catalog: URL of the database that keeps the names of buckets, perhaps with a password; None: each keeps its own,
            as folders do anyway.
    """

    home: Path
    actor: str
    policy: str | None = None
    project: Path | None = None
    bucket: str | None = None
    catalog: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The registry, for messages."""
        return self.bucket or str(self.home)

    def at(self, place: str, *, environ: Mapping[str, str] | None = None) -> Settings:
        """The same for another registry.

        Args:
            place: a folder, or the URL of a bucket.
            environ: the environment; the process's own when None.

        Raises:
            InvalidInput: it is neither (codes ``bad-settings``, ``bad-address``, ``remote-not-supported``).
        """
        home, bucket = _place(place, os.environ if environ is None else environ)
        return replace(self, home=home, bucket=bucket)


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
        InvalidInput: a settings file is not TOML or has an unknown key (code ``bad-settings``), or a registry or a
            database is named that this release cannot reach (codes ``remote-not-supported``, ``bad-address``,
            ``bad-catalog``).
    """
    env = os.environ if environ is None else environ
    project, user = _project_file(folder), user_config_path("assay", appauthor=False) / "config.toml"
    stated = [] if project is None else [_read(project, _KEYS, apart=PROJECT_RULES)]
    stated += [_read(user, _USER_KEYS)] if user.is_file() else []
    place = home or env.get("ASSAY_HOME") or env.get("ASSAY_REGISTRY") or _first(stated, "home")
    actor = _checked(env.get("ASSAY_ACTOR") or _first(stated, "actor") or "") or _user()
    rules = str(policy) if policy else env.get("ASSAY_POLICY") or _first(stated, "policy")
    database = _database(env.get("ASSAY_CATALOG") or _first(stated, "catalog"))
    where, bucket = (user_data_path("assay", appauthor=False), None) if place is None else _place(str(place), env)
    if database is not None and bucket is None and not home:
        raise InvalidInput(
            "a database keeps the names of a bucket; the registry is a folder, which keeps its own",
            code="bad-catalog",
            hint="set ASSAY_REGISTRY to s3://BUCKET/PREFIX, or unset ASSAY_CATALOG",
        )
    return Settings(where, actor, rules, project, bucket, database)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` or ``~somebody`` is the folder of that user.

    Raises:
        NotFound: there is no such user, or nothing says where home is (code ``path-not-found``).
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        text = os.fspath(path)
        raise NotFound(
            f"no such user: {text.partition('/')[0]:.200}",
            code="path-not-found",
            hint=f"write ./{text:.200} for a file of that name",
        ) from None


def _place(text: str, env: Mapping[str, str]) -> tuple[Path, str | None]:
    """The local folder of a registry, and its bucket where it has one."""
    if "://" in text:
        bucket = _bucket(text)
        return _state(bucket, env), bucket
    if text.lower().startswith(tuple(f"{scheme}:/" for scheme in BUCKETS)):  # would be a folder of that odd name
        raise InvalidInput(
            f"not a bucket: {text!r}", code="bad-address", hint="such as s3://models or file:///srv/models: two slashes"
        )
    try:
        return Path(text).expanduser().absolute(), None
    except (RuntimeError, OSError) as error:
        raise InvalidInput(
            f"the registry's folder {text!r} cannot be found from here: {error}",
            code="bad-settings",
            hint="name it with its whole path",
        ) from error


def _bucket(text: str) -> str:
    """The URL of a bucket in the one way it is written: without credentials, and without a slash at its end."""
    scheme = text.partition("://")[0]
    if scheme not in BUCKETS:
        raise InvalidInput(
            f"registry {scheme}:// is not supported yet; expected a folder or s3://BUCKET/PREFIX",
            code="remote-not-supported",
            hint="set ASSAY_HOME to a folder on a local disk, or to a bucket",
        )
    try:
        url = urlsplit(text)
        user = url.username or url.password
    except ValueError:
        url, user = urlsplit(""), None
    path = url.path.rstrip("/")
    parts = path.split("/")[1:]
    if user:  # not told: it may be a secret
        raise InvalidInput(
            f"the URL of a bucket holds no credentials: {scheme}://{url.hostname}{path}",
            code="bad-address",
            hint="give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or as the AWS tools do",
        )
    named = bool(url.netloc) if scheme == "s3" else not url.netloc and bool(parts)
    if not named or url.query or url.fragment or any(part in {"", ".", ".."} for part in parts):
        raise InvalidInput(
            f"not a bucket: {text!r}", code="bad-address", hint="such as s3://models or s3://models/fraud"
        )
    return f"{scheme}://{url.netloc}{path}"


def _state(bucket: str, env: Mapping[str, str]) -> Path:
    """The local folder of a bucket: the same name at another endpoint is another bucket."""
    base = env.get("ASSAY_STATE")
    root = expanded(base).absolute() if base else user_state_path("assay", appauthor=False) / "buckets"
    endpoint = next((env[name] for name in _ENDPOINTS if env.get(name)), "")
    check = hashlib.sha256(f"{endpoint.rstrip('/')} {bucket}".encode()).hexdigest()[:10]
    return root / f"{re.sub('[^A-Za-z0-9.]+', '-', bucket)[:80]}-{check}"


def _database(text: str | None) -> str | None:
    """The URL of the database that keeps the names of buckets."""
    if text is None:
        return None
    scheme, found, _ = text.partition("://")
    if not found or scheme not in _DATABASES:  # only the scheme is told: the rest may be a password
        raise InvalidInput(
            f"catalog {scheme if found else 'without ://'} is not supported; expected postgresql://USER@HOST/DATABASE",
            code="bad-catalog",
            hint="the password comes from PGPASSWORD or ~/.pgpass",
        )
    return text


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
    if "home" in body and "://" not in body["home"]:
        body["home"] = str(file.parent / expanded(body["home"]))
    if body.get("policy", "").endswith(".toml"):
        body["policy"] = str(file.parent / expanded(body["policy"]))
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
