"""Numbers, promises and measurements in words; neither torch nor pages."""
