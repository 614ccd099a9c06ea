"""Signing: proving who vouches for an artifact, from digests alone, and checking it."""
