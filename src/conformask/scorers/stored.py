"""The scorer of a run folder, which no other replaces."""

from pathlib import Path

from conformask.errors import MismatchError
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.tiled import Tiled
from conformask.storage.as_json import read_json
from conformask.types import Scorer


def save_scorer(scorer: Scorer, folder: Path) -> None:
    """Write a scorer into a folder that holds none; where it is there already, leave its files alone.

    Raises:
        MismatchError: the folder holds another scorer, or an unfinished training.
    """
    if isinstance(scorer, Tiled):
        scorer = scorer.scorer
    if not (folder / "scorer.json").is_file():
        scorer.save(folder)
    elif _fingerprint(folder) != scorer.fingerprint:
        raise MismatchError(f"{folder} holds another scorer: choose another folder")


def _fingerprint(folder: Path) -> str:
    record = read_json(folder / "scorer.json")
    return str(record.get("fingerprint") or NetworkScorer.stored_fingerprint(folder))
