"""Blobs, packs and small objects in a bucket, through ``obstore`` (the extra ``assay[s3]``).

    PREFIX/
      blobs/sha256/<hex>       the bytes, exactly; visible only when complete
      packs/<name>.pack        see ``docs/spec/pack.md``
      packs/<name>.gone        what was taken out of it
      touched/sha256/<hex>     empty; its time says when the blob was last relied upon, if later than it was written
      holds/<random>/...       somebody adds blobs that nothing names yet (``guarding``)
      sweeps/<random>          garbage is being deleted (``guarding``)
      damaged/<hex>-<random>   taken out of use by ``set_aside``

Rule for editors: only ``objects``, ``opening`` and ``folder`` import ``obstore``; what it raises is translated in
``failing``, and nothing that a server says is passed on but its error code: its texts may repeat parts of a request.
"""
