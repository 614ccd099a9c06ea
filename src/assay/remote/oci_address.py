"""How a repository in an OCI registry is written: ``oci://HOST[:PORT]/REPOSITORY[:TAG]`` or ``…@DIGEST``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.spec.digest import Digest
from assay.spec.reference import check_name

SCHEME = "oci://"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HUB = {"docker.io", "index.docker.io", "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Address:
    """A repository, and what in it.

    Args:
        host: with the port, as it was written.
        repository: its name.
        label: a tag, or a digest; None when neither was written.
    """

    host: str
    repository: str
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        >>> Address.parse("oci://registry.example:5000/team/churn:v1").repository
        'team/churn'

        Raises:
            InvalidInput: it is not one (codes ``invalid-reference``, ``invalid-tag``, ``invalid-name``).
        """
        host, _, rest = text.removeprefix(SCHEME).partition("/")
        if not _HOST.fullmatch(host) or not rest:
            raise InvalidInput(
                f"not a repository of an OCI registry: {text!r:.200}; expected oci://HOST/REPOSITORY or …:TAG",
                code="invalid-reference",
                hint="a layout in a folder is written with one colon and no slashes: oci:DIR",
            )
        rest, at, digest = rest.partition("@")
        repository, colon, tag = rest.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise InvalidInput(f"not an OCI tag: {tag!r}", code="invalid-tag", hint="letters, digits, '_', '.', '-'")
        label = str(Digest.parse(digest)) if at else tag if colon else None
        return cls(host, check_name(repository), label)

    @property
    def is_hub(self) -> bool:
        """Whether it is Docker Hub, which answers at another address than people write."""
        return self.host in _HUB

    @property
    def served_at(self) -> str:
        """The host that answers."""
        return "registry-1.docker.io" if self.is_hub else self.host

    @property
    def served_as(self) -> str:
        """The repository's name there."""
        return f"library/{self.repository}" if self.is_hub and "/" not in self.repository else self.repository

    @property
    def place(self) -> str:
        """The repository, as a person writes it."""
        return f"{SCHEME}{self.host}/{self.repository}"

    def __str__(self) -> str:
        if self.label is None:
            return self.place
        return f"{self.place}@{self.label}" if ":" in self.label else f"{self.place}:{self.label}"


def is_loopback(host: str) -> bool:
    """Whether a host (with or without a port) is this machine."""
    name = host[1 : host.index("]")] if host.startswith("[") else host.rpartition(":")[0] or host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
