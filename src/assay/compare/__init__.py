"""Two sides, each a tree with what is understood and said about it, and what changed from the one to the other."""
