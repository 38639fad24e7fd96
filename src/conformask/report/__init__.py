"""Records in; figures and a one-file HTML report out. Loads no torch."""
