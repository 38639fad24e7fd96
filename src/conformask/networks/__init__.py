"""Bare networks: modules with weights and nothing else."""
