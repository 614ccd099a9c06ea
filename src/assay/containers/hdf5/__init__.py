"""HDF5 files, read without the HDF5 library."""
