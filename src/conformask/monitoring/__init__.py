"""Monitoring of a masker in use, batch by batch or as a stream."""
