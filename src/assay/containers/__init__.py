"""Containers: zip, pickle, protobuf, HDF5, npy and other envelopes, read as bytes without meaning.

Rule for editors: bounded, total, no framework, no execution. A container knows nothing of models; a format does.
"""
