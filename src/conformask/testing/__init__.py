"""Contracts that any distance or family must satisfy; subclass them in your own tests."""

from conformask.testing.distances import DistanceContract
from conformask.testing.families import FamilyContract

__all__ = ["DistanceContract", "FamilyContract"]
