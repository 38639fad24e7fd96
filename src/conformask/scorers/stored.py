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
    record = read_json(folder / "scorer.json") if (folder / "scorer.json").is_file() else {"finished": False}
    if record.get("finished") is False:
        scorer.save(folder)
    elif (record.get("fingerprint") or NetworkScorer.stored_fingerprint(folder)) != scorer.fingerprint:
        raise MismatchError(f"{folder} holds another scorer: choose another folder")
