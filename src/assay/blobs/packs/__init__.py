"""Blobs in packs: an index of what lies where, what went since, packing, compaction, and the store over all of it.

    packs/<name>.pack       immutable; named by the digest of its directory (``assay.packing``)
    packs/<name>.gone       what was taken out of it since (``gone``)
    packs/index.sqlite3     what lies where; made again from the packs whenever it is missing or damaged (``index``)
    packs/index.lock        flock, shared: the index is written; exclusive: it is replaced by another one
    packs/                  flock, shared: a pack is written; exclusive: packs are compacted

Rule for editors: the truth is in packs and ``.gone`` files, and both are durable before the index says so. A raw copy
goes, and an old pack goes, only after what replaces it is durable *and* was read back.
"""
