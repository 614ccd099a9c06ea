"""``assay verify``: are the bytes those that were stored, and did whom we trust sign them."""

from __future__ import annotations

import click

from assay.cli.console import Bar, json_option, print_json, say, talk
from assay.cli.context import REFERENCE, local_path, registry_of, settings_of
from assay.cli.text import coloured, plural, size, visible
from assay.errors import NotFound, VerificationFailed
from assay.policy.trust import Judgement
from assay.service import verify as verifying
from assay.service.registry import Registry
from assay.service.verify import PacksChecked, State, Verification
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.records import Version
from assay.spec.reference import Reference, is_path
from assay.spec.signature import SignatureCheck, Standing
from assay.wiring.auditing import policies_of
from assay.wiring.caching import uncached
from assay.wiring.signing import judge_path, judge_version, trust_of, trusts_of

_GIVEN_UP = ("purged", "version-removed")


@click.command()
@click.argument("reference", required=False, type=REFERENCE)
@click.option("everything", "--all", is_flag=True, help="Every version here.")
@click.option("--key", "keys", metavar="FILE", multiple=True, help="Public key (PEM), one of which must have signed.")
@click.option("--certificate-chain", "chains", metavar="FILE", multiple=True, help="Root certificates (PEM), likewise.")
@click.option("--identity", metavar="NAME", default="", help="Whom the signing certificate must name.")
@click.option("--issuer", metavar="URL", default="", help="Who confirmed the identity of a keyless signature.")
@click.option("--signature", metavar="FILE", help="The signature of a folder.")
@click.option("--policy", metavar="FILE", help="Policy with trusted keys and required signers.")
@json_option
@click.pass_context
def verify(
    context: click.Context,
    reference: str | None,
    *,
    everything: bool,
    keys: tuple[str, ...],
    chains: tuple[str, ...],
    identity: str,
    issuer: str,
    signature: str | None,
    policy: str | None,
    as_json: bool,
) -> None:
    """Read and hash every byte again, and check who signed it.

    Exit 0 when all matches, 1 when something does not. A damaged blob is set aside, so that the next push of the same
    files repairs it. With --all, packs are compared with their checksums, too. With --signature, the files of a folder
    are checked instead.
    """
    if (reference is None) != everything:
        raise click.UsageError("name a REFERENCE, or use --all")
    if (reference is not None and is_path(reference)) != (signature is not None):
        raise click.UsageError("a folder is verified against --signature FILE; a version has its signatures beside it")
    trust = trust_of(
        [local_path(one, "--key") for one in keys],
        [local_path(one, "--certificate-chain") for one in chains],
        identity=identity,
        issuer=issuer,
    )
    if signature is not None:
        place = local_path(reference or "", "the folder")
        judged = judge_path(place, local_path(signature, "--signature"), trust, progress=Bar())
        if as_json:
            print_json({"reference": reference, "ok": judged.ok, **_signatures(judged)})
        else:
            say(f"{coloured('ok', 'green') if judged.ok else coloured('refused', 'red')} {reference}")
            _print_signatures(judged)
        if not judged.ok:
            context.exit(VerificationFailed.exit_status)
        return
    trusts = trusts_of(policies_of(settings_of(context, policy=policy)), trust)
    registry = uncached(registry_of(context))
    chosen = _everything(registry) if everything else [registry.resolve(Reference.parse(reference or ""))]
    # First: what is set aside below is in no pack any more.
    packs = verifying.verify_packs(registry, progress=Bar()) if everything else None
    found = []
    for version in chosen:
        try:
            checked = verifying.verify(registry, version, progress=Bar())
        except NotFound as error:
            if everything and error.code in _GIVEN_UP:
                continue  # since the list was made
            raise
        whole = all(one.path != "manifest" for one in checked.bad)
        found.append((checked, judge_version(registry, version, trusts) if whole else Judgement((), ())))
    if as_json:
        bodies = [_json(checked, judged) for checked, judged in found]
        bodies += [_packs_json(packs)] if packs is not None else []
        print_json(bodies if everything else bodies[0])
    else:
        for checked, judged in found:
            _print(checked, judged)
        if packs is not None:
            _print_packs(packs)
    if not (all(checked.ok and judged.ok for checked, judged in found) and (packs is None or packs.ok)):
        context.exit(VerificationFailed.exit_status)


def _everything(registry: Registry) -> list[Version]:
    """One version per artifact that still has its bytes."""
    seen: dict[tuple[str, str], Version] = {}
    for model in registry.catalog.models():
        for version in registry.catalog.versions(model.name):
            if not version.gone:
                seen.setdefault((version.name, str(version.manifest)), version)
    return list(seen.values())


def _json(found: Verification, judged: Judgement) -> dict[str, Json]:
    return {
        "reference": found.version.reference,
        "digest": str(found.version.manifest),
        "ok": found.ok and judged.ok,
        "blobs": len(found.checked),
        "bytes": sum(one.size for one in found.checked),
        "bad": [one.to_json() for one in found.bad],
        "set_aside": list(found.set_aside),
        "copies": list(found.copies),
        **_signatures(judged),
    }


def _packs_json(packs: PacksChecked) -> dict[str, Json]:
    return {
        "packs": packs.packs,
        "bytes": packs.bytes,
        "ok": packs.ok,
        "faults": [
            {"pack": one.pack, "what": one.what, "blobs": [str(digest) for digest in one.blobs]} for one in packs.faults
        ],
    }


def _signatures(judged: Judgement) -> dict[str, Json]:
    return {"signatures": [check.to_json() for check in judged.checks], "problems": list(judged.problems)}


def _brief(digest: Digest | str) -> str:
    return str(digest).rpartition(":")[2][:12]


def _print(found: Verification, judged: Judgement) -> None:
    total = sum(one.size for one in found.checked)
    what = f"{plural(len(found.checked), 'blob')}, {size(total)}"
    if found.ok:
        state = coloured("ok", "green") if judged.ok else coloured("refused", "red")
        say(f"{state} {found.version.reference}  {what}")
        _print_signatures(judged)
        return
    say(f"{coloured('damaged', 'red')} {found.version.reference}  {len(found.bad)} of {what}")
    for one in found.bad:
        told = visible(one.found) if one.state is State.DAMAGED and " " in one.found else f"found {_brief(one.found)}"
        detail = f", {told}" if one.found else ""
        say(f"  {one.state.value}: {one.path}  expected {_brief(one.digest)}{detail}")
    _print_signatures(judged)
    for place in found.set_aside:
        talk().print(f"set aside: {place}")
    places = f", or copy it back from {found.copies[0]}" if found.copies else ""
    talk().print(f"hint: push the original files again to repair it{places}")


def _print_packs(packs: PacksChecked) -> None:
    what = f"{plural(packs.packs, 'pack')}, {size(packs.bytes)}"
    if packs.ok:
        say(f"{coloured('ok', 'green')} {what}")
        return
    say(f"{coloured('damaged', 'red')} {what}")
    for one in packs.faults:
        hit = f"; {plural(len(one.blobs), 'blob')} cannot be read" if one.blobs else ""
        say(f"  pack {one.pack[:12]}: {visible(one.what)}{hit}")
    talk().print("hint: push or copy the original files of the versions named above again; what is intact stays packed")


def _print_signatures(judged: Judgement) -> None:
    for check in judged.checks:
        say(f"  {_said(check)}")
    for problem in judged.problems:
        say(f"  {coloured('refused', 'red')}: {problem}")


def _said(check: SignatureCheck) -> str:
    what = f"signature of the {check.covers}" if check.covers else f"signature {check.signature.short}"
    if check.standing is not Standing.VALID:
        return f"{check.standing.value} {what}: {check.reason}"
    who = f"{check.signer} ({check.identity})" if check.identity else check.signer
    return f"{what} by {who}, key {check.key[:19]}" + (f"; {check.reason}" if check.reason else "")
