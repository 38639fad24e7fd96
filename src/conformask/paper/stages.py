"""Stages of a long run: each leaves a folder named by the fingerprint of all that it depends on."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from conformask.errors import ConformaskError
from conformask.progress import main_process
from conformask.storage.as_json import Json, plain, read_json, write_json

VERSION = 2
"""Counts on whenever a stage comes to compute something else from the same settings."""
DONE = "done.json"
TOGETHER = ("predictor", "triplets", "scorer", "calibration")
"""Kinds of stages that several processes work on together, and that resume where they stopped."""
POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Stage:
    """One piece of work: what decides its result, and the stages that it builds on."""

    kind: str
    name: str
    """For people: folders are told apart by the fingerprint."""
    settings: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple["Stage", ...] = ()
    expected: float = 5.0
    """Seconds that it may take, before any like it was measured."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the settings of this stage, or of one that it builds on, do."""
        parts = [VERSION, self.kind, plain(self.settings), [stage.fingerprint for stage in self.needs]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.kind}-{self.name}-{self.fingerprint}"

    @property
    def likeness(self) -> str:
        """Stages alike in this take about the same time."""
        return f"{self.kind} {self.settings.get('distance', '')} {self.settings.get('data', '')}"


@dataclass(frozen=True)
class Cache:
    """Where finished stages lie; a stage is done when its folder holds done.json."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        """Where a stage leaves its results."""
        return self.root / stage.folder

    def done(self, stage: Stage) -> bool:
        """Whether it was finished."""
        return (self.folder(stage) / DONE).is_file()

    def missing(self, goals: Iterable[Stage]) -> list[Stage]:
        """What is to be done for these stages, in order; what a finished one builds on need not be there."""
        return unique(goals, self.done)

    def seconds(self, stage: Stage) -> float | None:
        """How long it took; None where it is not done."""
        return float(read_json(self.folder(stage) / DONE)["seconds"]) if self.done(stage) else None

    def run(self, stage: Stage, make: Callable[[Path], None]) -> Path:
        """Have the stage done, and return its folder; what was done is not made again.

        Killed stages of the kinds TOGETHER resume where they stopped, others start over. Of several processes
        all do these, and the first does the rest.

        Raises:
            OutputError: something lies there that no record of conformask claims.
        """
        folder = self.folder(stage)
        if self.done(stage):
            return folder
        if main_process() or stage.kind in TOGETHER:
            started = time.monotonic()
            make(folder)
            self._finish(stage, time.monotonic() - started)
        self._await(folder / DONE)
        return folder

    def _finish(self, stage: Stage, seconds: float) -> None:
        if main_process():
            record = {"stage": stage.name, "kind": stage.kind, "settings": stage.settings}
            write_json(self.folder(stage) / DONE, record | {"seconds": round(seconds, 2)})

    @staticmethod
    def _await(path: Path) -> None:
        """Wait for what the first process writes, as long as the process that started this one lives."""
        parent = os.getppid()
        while not path.is_file():
            if os.getppid() != parent:
                raise ConformaskError("the first process has ended")
            time.sleep(POLL_SECONDS)


def unique(stages: Iterable[Stage], left_out: Callable[[Stage], bool] = lambda _: False) -> list[Stage]:
    """Each stage and, before it, those that it builds on; once each, none for the sake of one left out."""
    found: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.fingerprint not in found and not left_out(stage):
            for need in stage.needs:
                add(need)
            found[stage.fingerprint] = stage

    for stage in stages:
        add(stage)
    return list(found.values())
