"""Stages of a long run: each leaves a folder named by the fingerprint of all that it depends on."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from conformask.errors import ConformaskError
from conformask.progress import main_process
from conformask.storage.as_json import Json, hash_of, read_json, write_json

VERSION = 2
"""Version of the stages, increased when a stage computes something else from the same settings."""
DONE = "done.json"
TOGETHER = ("predictor", "triplets", "scorer", "calibration")
"""Kinds of stages that several processes work on together, and that resume where they stopped."""
POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Stage:
    """One piece of work: the settings that decide its result, and the stages that it depends on."""

    kind: str
    name: str
    """Name for people; folders are distinguished by the fingerprint."""
    settings: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple["Stage", ...] = ()
    expected: float = 5.0
    """Seconds that it may take, before any similar stage was measured."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash that changes with the settings of this stage, or of one that it depends on."""
        parts = [VERSION, self.kind, self.settings, [stage.fingerprint for stage in self.needs]]
        return hash_of(parts)[:12]

    @property
    def folder(self) -> str:
        """Name of the stage's folder."""
        return f"{self.kind}-{self.name}-{self.fingerprint}"

    @property
    def likeness(self) -> str:
        """Key of similar stages, which take about the same time."""
        return f"{self.kind} {self.settings.get('distance', '')} {self.settings.get('data', '')}"


@dataclass(frozen=True)
class Cache:
    """Folder of finished stages; a stage is done when its folder holds done.json."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        """Return the folder of a stage's results."""
        return self.root / stage.folder

    def done(self, stage: Stage) -> bool:
        """Return whether a stage is finished."""
        return (self.folder(stage) / DONE).is_file()

    def missing(self, goals: Iterable[Stage]) -> list[Stage]:
        """Return the stages left to run for these goals, in order; a finished stage may lack its needs."""
        return unique(goals, self.done)

    def seconds(self, stage: Stage) -> float | None:
        """Return the seconds that a stage took; None if it is not done."""
        return float(read_json(self.folder(stage) / DONE)["seconds"]) if self.done(stage) else None

    def run(self, stage: Stage, make: Callable[[Path], None]) -> Path:
        """Run a stage unless it is done, and return its folder.

        Killed stages of the kinds TOGETHER resume where they stopped, others start over. Of several processes
        all run these kinds, and the first runs the rest.

        Raises:
            OutputError: something lies there that no record of conformask claims.
        """
        folder = self.folder(stage)
        if self.done(stage):
            return folder
        if main_process() or stage.kind in TOGETHER:
            start = time.monotonic()
            make(folder)
            self._finish(stage, time.monotonic() - start)
        self._await(folder / DONE)
        return folder

    def _finish(self, stage: Stage, seconds: float) -> None:
        if main_process():
            record = {"stage": stage.name, "kind": stage.kind, "settings": stage.settings}
            write_json(self.folder(stage) / DONE, record | {"seconds": round(seconds, 2)})

    @staticmethod
    def _await(path: Path) -> None:
        """Wait for a file of the first process, as long as the process that started this one lives."""
        parent = os.getppid()
        while not path.is_file():
            # a process whose parent died gets another one: nobody would write the file
            if os.getppid() != parent:
                raise ConformaskError("the first process has ended")
            time.sleep(POLL_SECONDS)


def unique(stages: Iterable[Stage], is_omitted: Callable[[Stage], bool] = lambda _: False) -> list[Stage]:
    """Return each stage after its dependencies, once; omit those left out, and what only they depend on."""
    ordered: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.fingerprint not in ordered and not is_omitted(stage):
            for need in stage.needs:
                add(need)
            ordered[stage.fingerprint] = stage

    for stage in stages:
        add(stage)
    return list(ordered.values())
