"""Bills of materials and provenance, in the standards' own words, from what was observed."""
