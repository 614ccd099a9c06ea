"""The sandbox: running a framework in a process of its own, without network, home folder or unbounded resources."""
