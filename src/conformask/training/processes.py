"""Several processes at work on one training."""

import torch


def is_first_process() -> bool:
    """Whether this process writes what a training leaves: the only one, or the first of several.

    With several devices Lightning starts the same command again for each, and all go through the same lines.
    Asks torch, not the environment: what is not written is lost.
    """
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0
