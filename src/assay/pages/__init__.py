"""Pages and documents for people: comparisons, lineage, as HTML and Markdown. Everything foreign is escaped."""
