"""Protocol-buffer messages, read without their schema."""
