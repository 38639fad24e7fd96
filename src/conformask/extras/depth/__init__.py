"""Errors in shares of the depth: relative ones, and ratios such as delta < 1.25."""
