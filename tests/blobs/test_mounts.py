"""Network file systems, recognised in the table of mounts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from assay.blobs.mounts import mount_of, network_mount

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:9 master:3 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/ada/local\\040disk rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/share rw - cifs //server/share rw
33 22 0:43 / /mnt/far rw - fuse.sshfs ada@server:/ rw
34 22 0:44 / /stacked rw - tmpfs tmpfs rw
35 34 0:45 / /stacked rw - lustre mgs@tcp:/fs rw
a line that is not one
36 22 broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib/assay", ("/", "ext4")),
        ("/home/ada/assay", ("/home", "nfs4")),
        ("/home", ("/home", "nfs4")),
        ("/homes/ada", ("/", "ext4")),
        ("/home/ada/local disk/assay", ("/home/ada/local disk", "xfs")),
        ("/mnt/share/x", ("/mnt/share", "cifs")),
        ("/stacked/x", ("/stacked", "lustre")),
    ],
)
def test_a_path_lies_on_the_deepest_and_latest_mount_above_it(path: str, expected: tuple[str, str]) -> None:
    assert mount_of(PurePosixPath(path), TABLE) == expected


def test_only_network_file_systems_are_named() -> None:
    assert network_mount(Path("/mnt/far/x"), TABLE) == ("/mnt/far", "fuse.sshfs")
    assert network_mount(Path("/var/lib"), TABLE) is None
    assert network_mount(Path("/var/lib"), "") is None


def test_links_are_followed_before_looking(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/mnt/share/deep")
    assert network_mount(tmp_path / "link" / "home", TABLE) == ("/mnt/share", "cifs")


def test_the_systems_own_table_knows_a_local_folder(tmp_path: Path) -> None:
    assert network_mount(tmp_path) is None
