"""Memory that the command line keeps between batches."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from conformask.cli import keep_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_memory()
faults()
print(before, faults())
"""


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep memory")
def test_layers_of_the_last_batch_are_kept_for_the_next() -> None:
    """A fresh page is a fault: without it, all of a layer of 16 MiB are, every time."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 100
