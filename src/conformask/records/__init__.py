"""Frozen records of what each step knows and saves, each with the file that holds it. No torch."""
