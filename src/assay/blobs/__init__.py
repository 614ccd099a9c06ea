"""Blob stores: the places that keep immutable bytes, one module per place.

Rule for editors: stores know nothing of manifests, names or versions, and trust the digests they are asked for.
"""
