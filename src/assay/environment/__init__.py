"""What a live model was made with: interpreter, the distributions it needs, code state, command and hardware.

Rule for editors: environment variables are never read for recording; every text that comes from outside passes through
``redaction`` before it is kept. Written format: ``docs/spec/environment.md``.
"""
