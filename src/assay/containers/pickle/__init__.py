"""Pickle streams, interpreted symbolically: nothing is imported, called or built."""
