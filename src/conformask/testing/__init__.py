"""For your own tests: contracts that any distance or family must satisfy, and a small masker."""

from conformask.testing.distances import DistanceContract
from conformask.testing.families import FamilyContract
from conformask.testing.maskers import small_masker, small_triplets

__all__ = ["DistanceContract", "FamilyContract", "small_masker", "small_triplets"]
