"""Answers as pages: Markdown for pull requests, and HTML files that need nothing beside themselves."""
