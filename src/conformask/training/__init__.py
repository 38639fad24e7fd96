"""Training with Lightning, shared by all networks."""
