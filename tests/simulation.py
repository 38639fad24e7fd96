"""Loops of simulations."""

from jaxtyping import config

CHECKED = 2


def simulated(draws):
    """The numbers of the draws.

    Shapes and types are checked in the first ones only: simulations become five times as fast.
    """
    try:
        for place in range(draws):
            if place == CHECKED:
                config.update("jaxtyping_disable", True)
            yield place
    finally:
        config.update("jaxtyping_disable", False)
