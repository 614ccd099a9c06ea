"""Values: frozen, pure, standard library only. What everything else passes around.

Rule for editors: no I/O, no clock, no dependency; constructors validate, so that a value that exists is valid.
"""
