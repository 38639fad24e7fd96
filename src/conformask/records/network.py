"""The network that made y_hat: part of every promise."""

import warnings
from dataclasses import dataclass

from conformask.errors import ConformaskWarning, MismatchError


@dataclass(frozen=True)
class Network:
    """The network whose outputs are masked."""

    name: str
    fingerprint: str | None = None
    """A hash of the network's file, weights or code; None where only its name is known."""

    def is_other(self, network: "Network") -> bool:
        """Return whether the other network differs: by fingerprint where both are known, else by name."""
        if self.fingerprint is not None and network.fingerprint is not None:
            return self.fingerprint != network.fingerprint
        return self.name != network.name


@dataclass(frozen=True)
class Caveat:
    """A caveat to show beside masks of outputs that a promise may not be about."""

    text: str
    other: bool
    """True if another network made the outputs; otherwise it is unknown."""


def check_network(
    promised: Network | None, shown: Network | None, what: str, *, allow_network_mismatch: bool
) -> Caveat | None:
    """Check that y_hat was made by the network that a promise, or a scorer, is about.

    Args:
        promised: the network that the promise or scorer is about; None where unknown.
        shown: the network of the images.
        what: the name of the subject in messages, such as "the promise".
        allow_network_mismatch: whether to continue with a warning if it was another network.

    Raises:
        MismatchError: another network made it.
    """
    if promised is None and shown is None:
        return None
    if promised is None or shown is None:
        caveat = Caveat(_unknown(promised, shown, what), other=False)
    elif promised.is_other(shown):
        by = "another network with that name" if shown.name == promised.name else shown.name
        caveat = Caveat(
            (f"{what} is about outputs of {promised.name}, but these were made by {by}"), other=True
        )
    else:
        return None
    if caveat.other and not allow_network_mismatch:
        raise MismatchError(
            f"{caveat.text}: calibrate on outputs of that network, or continue without a promise with "
            "--allow-network-mismatch (allow_network_mismatch=True)"
        )
    warnings.warn(caveat.text, category=ConformaskWarning, stacklevel=4)
    return caveat


def _unknown(promised: Network | None, shown: Network | None, what: str) -> str:
    if promised is None and shown is not None:
        return (
            f"{what} does not record which network it is about, and these outputs were made by {shown.name}"
        )
    about = "" if promised is None else promised.name
    return (
        f"{what} is about outputs of {about}, but it is not recorded which network made these: name it with "
        "--network (network=)"
    )
