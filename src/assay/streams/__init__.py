"""Streams: bytes on the move between files, hashed on the way.

Rule for editors: descriptors in, digests out. Where files lie and what they are called is decided above.
"""
