"""Report of an evaluation: from records to figures and a one-file HTML page. Loads no torch."""
