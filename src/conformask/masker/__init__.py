"""Maskers: a scorer, a family and a rule for lambda, with a promise."""
