"""``assay cache``: what was fetched from far registries, and room made of it."""

from __future__ import annotations

import click

from assay.cli.console import json_option, print_json, say, talk
from assay.cli.text import plural, size
from assay.wiring.caching import open_cache, parse_size


@click.command()
@click.option("--clear", is_flag=True, help="Remove all that no running process uses.")
@click.option("--free", metavar="SIZE", help="Remove what was used longest ago until SIZE came back, such as 10GB.")
@json_option
def cache(*, clear: bool, free: str | None, as_json: bool) -> None:
    """Show or free what was fetched from registries in buckets.

    Blobs read from a bucket stay in ASSAY_CACHE, up to ASSAY_CACHE_SIZE; what was used longest ago goes first.
    """
    if clear and free is not None:
        raise click.UsageError("--clear removes everything; --free SIZE a part")
    folder = open_cache()
    freed = 0
    if clear:
        freed = folder.make_room(0)
    elif free is not None:
        freed = folder.make_room(max(0, folder.use().bytes - parse_size(free, "--free")))
    found = folder.use()
    if as_json:
        print_json(
            {
                "folder": str(folder.root),
                "bytes": found.bytes,
                "bound": folder.bound,
                "blobs": found.blobs,
                "blocks": found.blocks,
                "unfinished": found.unfinished,
                "in_use": found.in_use,
                "freed": freed,
            }
        )
        return
    say(
        f"{folder.root}: {size(found.bytes)} of at most {size(folder.bound)}, {plural(found.blobs, 'blob')} and "
        f"{plural(found.blocks, 'block')} of others"
    )
    if found.unfinished:
        talk().print(f"{size(found.unfinished)} are beginnings of blobs; the next fetch goes on from them")
    if clear or free is not None:
        talk().print(f"{size(freed)} freed; {size(found.in_use)} are in use by running processes and stay")
