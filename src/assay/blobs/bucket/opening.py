"""Opening a bucket by its address, with the settings that every AWS client reads.

    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL        another server than Amazon's
    AWS_REGION, AWS_DEFAULT_REGION
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE    the two files of profiles, when there are no keys above
    AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_*     what clusters give a job
    AWS_SKIP_SIGNATURE=true                      a public bucket, read without keys
    AWS_ALLOW_HTTP=true                          a server without TLS that is not on this machine

Rule for editors: keys go from here into the client library and nowhere else.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.store import S3Store

from assay.blobs.bucket.failing import Failure
from assay.blobs.bucket.objects import BucketObjects
from assay.blobs.bucket.options import DEFAULT, Options
from assay.errors import InvalidInput

SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9!_.*'()=@+-]{1,200}", re.ASCII)
_WORD = re.compile(r"[!-~]+", re.ASCII)
_METADATA = ("169.254.169.254", 80)
_AMBIENT = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a home in a bucket is.

    Args:
        bucket: its name.
        prefix: folders in it, without slashes at the ends; may be empty.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``.

        Raises:
            InvalidInput: it is no such address (code ``bad-address``).
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        folders = [part for part in prefix.split("/") if part]
        if (
            not url.startswith(SCHEME)
            or not _BUCKET.fullmatch(bucket)
            or not all(_SEGMENT.fullmatch(part) and part not in {".", ".."} for part in folders)
        ):
            raise InvalidInput(
                f"not the address of a bucket: {url.rsplit('@', maxsplit=1)[-1]!r:.200}",
                code="bad-address",
                hint="s3://BUCKET or s3://BUCKET/PREFIX, the bucket in 3 to 63 small letters, digits, dots, hyphens; "
                "keys belong into AWS_ACCESS_KEY_ID, not into the address",
            )
        return cls(bucket, "/".join(folders))

    def __str__(self) -> str:
        return SCHEME + "/".join(part for part in (self.bucket, self.prefix) if part)


def open_bucket(url: str, *, options: Options = DEFAULT, environ: Mapping[str, str] | None = None) -> BucketObjects:
    """The objects below an address; says now what would go wrong later.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        options: how patient and how parallel to be.
        environ: the environment; the process's own when None.

    Raises:
        InvalidInput: it is no address (code ``bad-address``), or settings for it cannot be used (``bad-settings``).
        StorageError: it cannot be listed: see ``assay.ports.objects.Objects``.
    """
    env = os.environ if environ is None else environ
    address = Address.parse(url)
    settings = {**_profile(env), **_named(env)}
    _check(settings)
    if not ("access_key_id" in settings or settings.get("skip_signature") or _is_ambient(env)):
        raise Failure(no_credentials=True).error(f"cannot open {address}", str(address))
    endpoint = settings.get("endpoint")
    if not (endpoint or "").startswith("http:"):
        settings["unsigned_payload"] = True  # TLS sees to it; hashing every byte once more is not free
    client = {"allow_http": _may_be_plain(endpoint, env), "connect_timeout": timedelta(seconds=10)}

    def store(retries: int, **timeouts: timedelta) -> Any:
        return S3Store(
            address.bucket,
            prefix=address.prefix or None,
            client_options={**client, **timeouts},
            retry_config=options.retries(retries),
            **settings,
        )

    objects = BucketObjects(
        store(0, read_timeout=options.stall, timeout=options.longest),
        # The time for reading an answer begins before a body has been sent, so that sending needs longer.
        writing=store(4, timeout=options.longest),
        place=str(address),
        options=options,
    )
    objects.check()
    return objects


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse what the client library would panic at.

    Raises:
        InvalidInput: a setting cannot be used (code ``bad-settings``); keys are not repeated in what is said.
    """
    endpoint = settings.get("endpoint")
    if endpoint is not None and not _is_server(endpoint):
        raise InvalidInput(
            f"{endpoint.rsplit('@', maxsplit=1)[-1]!r:.200} is not the address of a server",
            code="bad-settings",
            hint="AWS_ENDPOINT_URL is http:// or https://, a host and perhaps a port: http://localhost:9000",
        )
    for name in ("region", "access_key_id", "secret_access_key", "session_token"):
        if not _WORD.fullmatch(settings.get(name, "x")):
            raise InvalidInput(
                f"the setting {name} has blanks or characters that no such setting has",
                code="bad-settings",
                hint=f"look at AWS_{name.upper()}, or at the files of profiles",
            )


def _is_server(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        port = parts.port  # raises when it is none
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and bool(_WORD.fullmatch(endpoint))


def _named(env: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"region": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")}
    found["endpoint"] = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT")
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
        found["access_key_id"] = env["AWS_ACCESS_KEY_ID"]
        found["secret_access_key"] = env["AWS_SECRET_ACCESS_KEY"]
        found["session_token"] = env.get("AWS_SESSION_TOKEN")
    found["skip_signature"] = _is_true(env.get("AWS_SKIP_SIGNATURE")) or None
    return {key: value for key, value in found.items() if value}


def _profile(env: Mapping[str, str]) -> dict[str, Any]:
    """What the files of profiles say; keys only when the environment has none."""
    name = env.get("AWS_PROFILE") or "default"
    home = Path(env.get("HOME") or "/")
    credentials = _section(Path(env.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"), name)
    config = _section(
        Path(env.get("AWS_CONFIG_FILE") or home / ".aws" / "config"), name if name == "default" else f"profile {name}"
    )
    if env.get("AWS_PROFILE") and not (credentials or config):
        raise InvalidInput(
            f"there is no AWS profile {name!r}",
            code="bad-settings",
            hint="AWS_PROFILE names a section of ~/.aws/config",
        )
    found: dict[str, Any] = {"region": config.get("region"), "endpoint": config.get("endpoint_url")}
    keys = credentials if "aws_access_key_id" in credentials else config
    if not env.get("AWS_ACCESS_KEY_ID") and "aws_access_key_id" in keys and "aws_secret_access_key" in keys:
        found["access_key_id"] = keys["aws_access_key_id"]
        found["secret_access_key"] = keys["aws_secret_access_key"]
        found["session_token"] = keys.get("aws_session_token")
    return {key: value for key, value in found.items() if value}


def _section(file: Path, name: str) -> Mapping[str, str]:
    reader = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        reader.read(file, encoding="utf-8")
    except (configparser.Error, OSError, ValueError):
        raise InvalidInput(
            f"{file} cannot be read as a file of AWS profiles", code="bad-settings", hint="mend or remove it"
        ) from None
    return dict(reader[name]) if reader.has_section(name) else {}


def _is_ambient(env: Mapping[str, str]) -> bool:
    """Whether this process may get keys without being given any.

    Asking a machine's metadata service where there is none would take minutes, so it is only looked for.
    """
    if any(env.get(name) for name in _AMBIENT):
        return True
    if _is_true(env.get("AWS_EC2_METADATA_DISABLED")):
        return False
    try:
        socket.create_connection(_METADATA, timeout=1).close()
    except OSError:
        return False
    return True


def _may_be_plain(endpoint: str | None, env: Mapping[str, str]) -> bool:
    """Whether requests may go without TLS: to this machine, or because somebody says so."""
    if _is_true(env.get("AWS_ALLOW_HTTP")):
        return True
    parts = urlsplit(endpoint or "https:")
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise InvalidInput(
            f"the server {host} would be asked without TLS",
            code="bad-settings",
            hint="use an https:// address in AWS_ENDPOINT_URL; AWS_ALLOW_HTTP=true says that it is meant",
        )
    return True


def _is_true(text: str | None) -> bool:
    return (text or "").strip().lower() in {"1", "true", "yes", "on"}
