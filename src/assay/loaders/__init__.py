"""Loaders and savers: the only code that imports frameworks, and only when it is asked for one.

One file per framework holds what builds its object from verified files and what writes a live object in the safest
form the framework has. ``registry`` chooses. ``restricted`` and its neighbours are the unpickler that resolves nothing
but an exact table of globals.

Rule for editors: import frameworks inside functions; never write into the folder, never reach the network, never retry
with a weaker loader; nothing in the files may configure the loader.
"""
