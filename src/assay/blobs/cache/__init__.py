"""A local read-through cache in front of a far store, shared by all processes of a user.

    CACHE/
      blobs/sha256/<hex>             whole blobs, compared with their digest when they arrived; read-only
      blocks/<place>/<hex>/<number>  blocks of blobs that were read in part, each with a checksum behind it;
                                     <number>.head and .tail: what a long read needed of its first and last one
      staging/                       being written (``assay.blobs.staging``); part-<hex> is the beginning of a blob
      lock                           flock: somebody makes room

Last use is the time of last access, set on use; the time of last modification of a whole blob is fixed, so that a file
that somebody wrote to is noticed and dropped. What a living process uses (a shared flock) is never taken from under it.

Rule for editors: everything here may be removed at any time, by anybody; then it is fetched again. A cache that cannot
be written is read past, never an error.
"""
