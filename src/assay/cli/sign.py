"""``assay sign`` and ``assay key``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from assay.cli.console import Bar, json_option, print_json, say, talk
from assay.cli.context import REFERENCE, local_path, registry_of
from assay.cli.text import plural
from assay.service import signatures
from assay.spec.digest import Digest
from assay.spec.json import Json
from assay.spec.reference import Reference, is_path
from assay.wiring.signing import PASSWORD, keyless_signer, new_key, read_bundle, sign_path, signer_of


@click.command()
@click.argument("reference", type=REFERENCE)
@click.option("--key", "private", metavar="FILE", help="Private key (PEM).")
@click.option("--cert", "certificates", metavar="FILE", multiple=True, help="Its certificate, then the chain (PEM).")
@click.option("--keyless", is_flag=True, help="Sign with your identity through Sigstore's services.")
@click.option("--out", metavar="FILE", help="Where to write the signature of a folder.")
@click.option("--attach", metavar="FILE", help="Keep this signature, made by another tool, instead of making one.")
@json_option
@click.pass_context
def sign(
    context: click.Context,
    reference: str,
    *,
    private: str | None,
    certificates: tuple[str, ...],
    out: str | None,
    attach: str | None,
    keyless: bool,
    as_json: bool,
) -> None:
    """Sign a version, or with --out the files of a folder.

    A version is signed from its manifest, without reading its files; verify reads them. The password of an encrypted
    key is taken from ASSAY_KEY_PASSWORD, or asked for. Keyless signing needs a network, and publishes the identity and
    the digests in Sigstore's log.
    """
    if (private is not None) + (attach is not None) + keyless != 1:
        raise click.UsageError("sign with --key FILE or --keyless, or keep a signature with --attach FILE")
    if is_path(reference) != (out is not None):
        raise click.UsageError("a folder is signed with --out FILE; the signatures of a version are kept beside it")
    if certificates and private is None:
        raise click.UsageError("--cert names the certificate of a --key")
    if attach is not None and out is not None:
        raise click.UsageError("--attach keeps a signature beside a version: it takes no --out")
    if attach is not None:
        _keep(context, reference, local_path(attach, "--attach"), as_json=as_json)
        return
    chain = [local_path(one, "--cert") for one in certificates]
    if private is None:
        signer = keyless_signer()
    else:
        signer = signer_of(local_path(private, "--key"), chain, password=_password(private))
    body: dict[str, Json]
    if out is not None:
        place = local_path(out, "--out")
        digest = sign_path(local_path(reference, "the folder"), place, signer, progress=Bar())
        added, text = 1, f"{place} {digest}"
        body = {"reference": reference, "digest": None, "signatures": [str(digest)]}
    else:
        registry = registry_of(context)
        signed = signatures.sign(registry, registry.resolve(Reference.parse(reference)), signer)
        added, text = signed.added, f"{signed.version.reference} {signed.version.manifest}"
        body = {
            "reference": signed.version.reference,
            "digest": str(signed.version.manifest),
            "signatures": [str(one) for one in signed.signatures],
        }
    if as_json:
        print_json({**body, "added": added, "key": signer.seal.key, "identity": signer.seal.identity})
        return
    say(text)
    who = f" of {signer.seal.identity}" if signer.seal.identity else ""
    how = f"with the key {signer.seal.key[:19]}" if signer.seal.key else "keyless, with the identity"
    talk().print(f"{plural(added, 'signature')} added, {how}{who}")


@click.command()
@click.argument("path", type=click.Path())
@json_option
def key(path: str, *, as_json: bool) -> None:
    """Make a key pair for signing: PATH and PATH.pub.

    PATH, the private key, is for you alone; it is encrypted when ASSAY_KEY_PASSWORD is set.
    """
    private = local_path(path, "PATH")
    public = new_key(private)
    if as_json:
        print_json({"private": str(private), "public": str(public)})
        return
    say(str(public))
    sealed = "encrypted" if os.environ.get(PASSWORD) else "not encrypted"
    talk().print(f"the private key {private} is {sealed}: keep it, and give the public key away")


def _keep(context: click.Context, reference: str, file: Path, *, as_json: bool) -> None:
    registry = registry_of(context)
    version = registry.resolve(Reference.parse(reference))
    data = read_bundle(file)
    added = signatures.keep(registry, version, data)
    digest = str(version.manifest)
    if as_json:
        body: dict[str, Json] = {"reference": version.reference, "digest": digest, "signatures": [str(Digest.of(data))]}
        print_json({**body, "added": int(added), "key": "", "identity": ""})
        return
    say(f"{version.reference} {digest}")
    talk().print(f"{plural(int(added), 'signature')} added; assay verify --key says whose it is")


def _password(private: str) -> str | None:
    """The password, asked for when a person is there and the key needs one that nobody gave."""
    if os.environ.get(PASSWORD) or not sys.stdin.isatty():
        return None
    try:
        sealed = b"ENCRYPTED" in local_path(private, "--key").read_bytes()
    except OSError:
        return None
    return str(click.prompt("Password of the key", hide_input=True, err=True)) if sealed else None
