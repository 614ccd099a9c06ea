"""Catalogs: the small mutable book of names, as a projection of an append-only journal.

    journal    what happened, one event per line: the truth
    rules      what a change means: reads a catalog, says which event to record
    book       the projection in memory
    queries    the projection in SQL, reading
    rows       the projection in SQL, applying events
    memory, sql   the two catalogs, put together from these

Rule for editors: an event is durable before its change is visible. Everything but the journal can be thrown away.
"""
