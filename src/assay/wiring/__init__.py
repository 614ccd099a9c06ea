"""The composition root: the only room that knows everyone. Everything else is handed what it needs from here."""
