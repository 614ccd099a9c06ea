"""What runs inside the sandbox: the framework's own reader and writer, and the comparison of what they made."""
