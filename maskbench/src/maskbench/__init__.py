"""A benchmark of masks: which method hides least of an image at the same promise, for whom, and at what cost.

Tasks are frozen triplets of networks of many kinds, methods learn a score from some of them, and the
benchmark calibrates all scores alike. README.md says how to run it and how to enter a method.
"""

from maskbench.aim import Aim as Aim
from maskbench.cell import measured as measured
from maskbench.triplets import Triplets as Triplets
