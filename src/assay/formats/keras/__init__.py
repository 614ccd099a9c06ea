"""Keras: ``.keras`` archives, and models and weights in HDF5."""
