"""Which file system a path lies on, so that SQLite is not put where its locks do not work."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

NETWORK = frozenset(
    """
    9p acfs afs beegfs ceph cifs coda davfs fhgfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs3 nfs4 ocfs2 orangefs panfs
    pvfs2 smb2 smb3 smbfs vboxsf wekafs
    fuse.blobfuse fuse.blobfuse2 fuse.ceph fuse.ceph-fuse fuse.davfs fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.goofys
    fuse.juicefs fuse.mount-s3 fuse.mountpoint-s3 fuse.nfs fuse.rclone fuse.s3fs fuse.seaweedfs fuse.smbnetfs fuse.sshfs
    fuse.vmhgfs-fuse fuse.weed
    """.split()
)
"""File systems that several machines share, or that do not give SQLite's write-ahead log the shared memory it needs."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def mount_of(path: PurePath, mountinfo: str) -> tuple[str, str] | None:
    r"""Mount point and file-system type under an absolute, resolved path; None when the table does not say.

    Args:
        path: what to look for; need not exist.
        mountinfo: the text of ``/proc/self/mountinfo`` (proc(5)).

    >>> table = "22 1 8:1 / / rw - ext4 /dev/vda rw\n30 22 0:40 / /home rw - nfs4 srv:/home rw"
    >>> mount_of(PurePath("/home/ada/assay"), table)
    ('/home', 'nfs4')
    """
    best: tuple[str, str] | None = None
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields, described = left.split(" "), right.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        # A later mount on the same point hides the earlier one.
        if path.is_relative_to(point) and (best is None or len(PurePath(point).parts) >= len(PurePath(best[0]).parts)):
            best = point, described[0]
    return best


def network_mount(path: Path, mountinfo: str | None = None) -> tuple[str, str] | None:
    """Mount point and type when *path* lies on a network file system; None when it does not, or nobody can say.

    Args:
        path: need not exist.
        mountinfo: the system's own table when None; systems without one (macOS) cannot say.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    found = mount_of(path.resolve(), mountinfo)
    return found if found is not None and found[1] in NETWORK else None
