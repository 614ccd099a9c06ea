"""The command line: one file per group of verbs, over the services. Data to stdout, everything else to stderr."""
