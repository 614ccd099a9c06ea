"""Credentials for OCI registries, where ``docker login``, ``podman login`` and ``skopeo login`` keep them.

Looked for in this order; the first file that knows the host counts:

    REGISTRY_AUTH_FILE                        containers-auth.json(5)
    DOCKER_CONFIG/config.json, else ~/.docker/config.json
    XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json

A file holds them under ``auths`` or names a program ``docker-credential-NAME`` that does, for one host
(``credHelpers``) or for all (``credsStore``). They are handed to the registry's own host and its token service alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import InvalidInput, MissingDependency, StorageError

HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers answer instead of a name
_HELPER_SECONDS = 30
_LARGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who is asking.

    Args:
        username: may be empty with a token.
        password: empty with a token.
        identity_token: what stands for both, to be exchanged at the token service.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        text = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(text).decode()}"


def find_credentials(host: str, *, hub: bool, environ: Mapping[str, str] | None = None) -> Credentials | None:
    """What this user has for a host; None when there is nothing.

    Args:
        host: with its port.
        hub: whether it is Docker Hub, whose key is another one.
        environ: the environment; the process's own when None.

    Raises:
        InvalidInput: a file cannot be read (code ``bad-credentials``).
        MissingDependency: a file names a program that is not installed.
        StorageError: the program failed.
    """
    keys = [HUB_KEY, "docker.io", "index.docker.io"] if hub else [host]
    for file in _files(os.environ if environ is None else environ):
        if file.is_file():
            found = _in_file(file, keys)
            if found is not None:
                return found
    return None


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME") or Path.home())
    if stated := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(stated)
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    if running := environ.get("XDG_RUNTIME_DIR"):
        yield Path(running) / "containers/auth.json"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"


def _in_file(file: Path, keys: list[str]) -> Credentials | None:
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")  # noqa: TRY301 - told with the others below
        body = json.loads(file.read_text("utf-8"))
        if not isinstance(body, dict):
            raise TypeError("it is not a JSON object")  # noqa: TRY301 - as above
        helpers, auths = _table(body, "credHelpers"), _table(body, "auths")
        for key in keys:
            helper = helpers.get(key) or body.get("credsStore")
            found = _from_helper(str(helper), key) if helper else None
            if found is None:
                found = _stated(auths, key)
            if found is not None:
                return found
    except OSError as error:
        raise StorageError.of(error, f"cannot read {file}") from error
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise InvalidInput(
            f"credentials in {file} cannot be read: {error!s:.200}",
            code="bad-credentials",
            hint="docker login or skopeo login writes that file",
        ) from error
    return None


def _table(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name) or {}
    if not isinstance(found, dict):
        raise TypeError(f"{name} is not an object")
    return found


def _stated(auths: Mapping[str, Any], key: str) -> Credentials | None:
    for written in (key, f"https://{key}", f"https://{key}/", f"https://{key}/v1/", f"https://{key}/v2/"):
        found = auths.get(written)
        if not isinstance(found, dict):
            continue
        if found.get("identitytoken"):
            return Credentials(identity_token=str(found["identitytoken"]))
        if found.get("auth"):
            user, _, password = base64.b64decode(str(found["auth"]), validate=True).decode().rstrip("\0").partition(":")
            return Credentials(user, password)
        if found.get("username"):
            return Credentials(str(found["username"]), str(found.get("password", "")))
    return None


def _from_helper(helper: str, key: str) -> Credentials | None:
    if not helper.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"not the name of a credential helper: {helper!r}")
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise MissingDependency(
            f"docker-credential-{helper} keeps the credentials for {key} and is not installed",
            hint="install it, or log in again with docker login or skopeo login",
        )
    try:
        done = subprocess.run(  # noqa: S603 - the user's own settings name it, as for docker
            [program, "get"], input=key, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"docker-credential-{helper} does not answer for {key}", code="bad-credentials") from error
    if done.returncode:
        return None  # it does not know that host
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise TypeError(f"docker-credential-{helper} gives no object")
    user, secret = str(answer["Username"]) if "Username" in answer else "", str(answer.get("Secret", ""))
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)
