"""Rehearsing a version: would it load and answer on a clean machine?"""

from __future__ import annotations

from collections.abc import Callable

from assay.api.given import PathLike, text_of, warn
from assay.environment.building import Options
from assay.sandbox.values import Limits
from assay.settings import expanded, read_settings
from assay.spec.rehearsal import Rehearsal
from assay.wiring.rehearsing import LIMITS, Wish
from assay.wiring.rehearsing import rehearse as rehearse_version


def rehearse(
    reference: str,
    *,
    budget: str = "",
    python: str | None = None,
    environment: PathLike | None = None,
    index_urls: tuple[str, ...] = (),
    limits: Limits = LIMITS,
    isolated: bool = True,
    record: bool = True,
    policy: PathLike | None = None,
    home: PathLike | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Rehearsal:
    """Load a version in a clean environment, without network and home, and run its golden example.

    Args:
        reference: ``NAME``, ``NAME:N`` or ``NAME:ALIAS``.
        budget: such as ``load<20s,rss<4GB,size<500MB``.
        python: the interpreter to build the environment with, by version or path; as recorded when None.
        environment: an interpreter or environment to use as it is, instead of building one.
        index_urls: package indexes, the first instead of the configured one.
        limits: what the process may use.
        isolated: whether nothing runs unless it can be isolated whole.
        record: whether the outcome is kept as a statement.
        policy: name of a built-in policy or the file of one; as the settings say when None.
        home: the registry's folder.
        told: hears what is going on.

    Returns:
        The outcome; ``passed`` and ``checks`` say whether it went as it should.

    Raises:
        Refused: it is not safe under the policy.
        CouldNot: the environment could not be built or isolated; nothing was run.
        NotFound: no such version.
    """
    settings = read_settings(home=home, policy=policy)
    wish = Wish(
        python=python,
        environment=None if environment is None else expanded(environment),
        options=Options(indexes=tuple(index_urls)),
        budget=budget,
        limits=limits,
        isolated=isolated,
        record=record,
    )
    return rehearse_version(settings, text_of("reference", reference), wish, told=told, warn=warn)[1]
