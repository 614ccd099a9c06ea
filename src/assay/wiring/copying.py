"""Opening the places that copies go to and come from: OCI image layouts, and repositories in OCI registries.

What speaks to registries needs an optional library and is imported when one is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from assay.errors import InvalidInput, MissingDependency
from assay.ports.places import PlaceBlobs, TagIndex
from assay.service.registry import Registry
from assay.spec.records import EventKind
from assay.wiring.places import LAYOUT_SCHEME, open_layout, parse_layout

REGISTRY_SCHEME = "oci://"
"""How a text begins that names a repository in an OCI registry."""
UPLOADS = "uploads"
"""Folder below a registry's local one for uploads under way."""
_EVENTS = 200
_MOUNTS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A place with tags.

    Args:
        blobs: its blobs.
        index: its tags.
        label: the tag or digest that was written; None when there was none.
    """

    blobs: PlaceBlobs
    index: TagIndex
    label: str | None

    def at(self, tag: str | None) -> str:
        """A tag, or a digest, at this place, as a person writes it."""
        return f"{self.index.place}@{tag}" if tag and ":" in tag else f"{self.index.place}:{tag}"


def is_place(text: str) -> bool:
    """Whether a text names a layout or a repository."""
    return text.startswith(LAYOUT_SCHEME)


def open_place(
    text: str, here: Registry, *, plain_http: bool = False, stall: float | None = None, writing: bool = False
) -> Place:
    """The place that ``oci:DIR[:TAG]`` or ``oci://HOST/REPOSITORY[:TAG]`` names.

    Args:
        text: as typed.
        here: the registry that takes part.
        plain_http: whether an OCI registry may be spoken to without encryption.
        stall: seconds without a byte after which an attempt is over.
        writing: whether something is to be written there.

    Raises:
        InvalidInput: it names none (codes ``invalid-reference``, ``invalid-tag``).
        Conflict: other things are in the folder of a layout that is to be written.
        MissingDependency: the library for registries is not installed.
    """
    if text.startswith(REGISTRY_SCHEME):
        return _open_repository(text, here, plain_http=plain_http, stall=stall, writing=writing)
    folder, tag = parse_layout(text)
    blobs, index = open_layout(folder)
    if writing:
        index.check_destination()
    return Place(blobs, index, tag)


def _open_repository(text: str, here: Registry, *, plain_http: bool, stall: float | None, writing: bool) -> Place:
    address = _room("oci_address").Address.parse(text)
    if writing and address.label is not None and ":" in address.label:
        raise InvalidInput(
            f"{text} names a digest; a copy is found by its tag",
            code="invalid-tag",
            hint=f"{address.place}:TAG",
        )
    http = _room("http")
    client = http.Http(
        stall=http.STALL if stall is None else stall,
        plain=frozenset({address.served_at}) if plain_http else frozenset(),
    )
    api = _room("oci_api").Api(address, client, plain=plain_http, remembering=here.state / UPLOADS)
    room = _room("oci_registry")
    mounts = _mounts(here, address.host, address.repository) if writing else ()
    return Place(room.RegistryBlobs(api, mounts=mounts), room.RegistryIndex(api), address.label)


def _mounts(here: Registry, host: str, repository: str) -> tuple[str, ...]:
    """Other repositories of that registry that this one copied to: blobs may be there already."""
    found: dict[str, None] = {}
    for event in here.catalog.events(kinds=[EventKind.COPIED], limit=_EVENTS):
        place = str(event.data.get("place", ""))
        begin = f"{REGISTRY_SCHEME}{host}/"
        if place.startswith(begin):
            name = place.removeprefix(begin).partition("@")[0].partition(":")[0]
            if name != repository:
                found[name] = None
    return tuple(found)[:_MOUNTS]


def _room(name: str) -> Any:
    try:
        return import_module(f"assay.remote.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("urllib3"):
            raise
        raise MissingDependency(
            "copies to and from OCI registries need the urllib3 library, which is not installed",
            hint="pip install 'assay[oci]'",
        ) from error
