"""A number with a promise: an interval around what is computed from an output, such as a volume."""
