"""Looking: the report, the viewer, figures for notebooks, and one file to share."""
