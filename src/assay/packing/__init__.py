"""Packs: many blobs made small together, each range of them still readable on its own (``docs/spec/pack.md``).

Concept: a blob is a list of segments (tensors, chunks of everything else), a segment a list of blocks of one mebibyte,
a block a few byte planes, each stored raw, as one constant byte or as a zstd frame. A segment may be stored as the
difference to another one of the same length, its base.

Not here: which tensors there are (``assay.formats``), and what a store does with packs (``assay.blobs.packs``).
"""
