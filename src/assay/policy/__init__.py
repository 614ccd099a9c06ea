"""Policy: pure rules that turn a report into a decision. No I/O, no clock: what they need is handed in."""
