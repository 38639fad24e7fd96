"""Contracts that any distance, family or scorer must pass; subclass them in your own tests."""
