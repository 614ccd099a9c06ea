"""Contract suites: what each port promises, as tests that run over every implementation, here and outside.

Needs the extra ``test`` (pytest, hypothesis). To prove an implementation of your own, subclass a suite in a test module
and override its hook; see the module of each suite.
"""
