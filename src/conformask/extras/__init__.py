"""Features that the heart does not know: a folder each, found by entry points or used by their verbs."""
