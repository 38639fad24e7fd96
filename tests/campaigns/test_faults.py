"""Every verb on a system that fails: errors of disks, no space, no descriptors, no locks, little memory.

A verb ends with what it is for or with one line and exit status 1, never with a traceback; a reader sees the
old or the new, and the same command ends as if nothing had been, once the system works again. Errors come
from a preloaded library (failing.c), in children of a warm process. CONFORMASK_FAULTS=0 tries all of them.
"""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from test_kills import VERBS, Verb, command, done, in_child, prepared, seen, told_by

from conformask.records.record import MARK

SOURCE = Path(__file__).with_name("failing.c")
ALL = os.environ.get("CONFORMASK_FAULTS") == "0"
REFUSED = 1


@dataclass(frozen=True)
class Fault:
    """An operation below the folder that fails from its `after`-th call on."""

    operation: str
    number: int
    after: int

    def begin(self, folder):
        """Let it fail in this process."""
        os.environ |= {
            "FAIL_OP": self.operation, "FAIL_ERRNO": str(self.number), "FAIL_AFTER": str(self.after),
            "FAIL_BELOW": str(folder),
        }  # fmt: skip


@dataclass(frozen=True)
class LittleMemory:
    """Bytes beyond those that the process has."""

    more: int

    def begin(self, folder):
        """Allow no more in this process."""
        status = Path("/proc/self/status").read_text()
        has = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (has + self.more,) * 2)


FAULTS = [
    Fault("write", errno.EIO, 1), Fault("write", errno.ENOSPC, 7), Fault("read", errno.EIO, 1),
    Fault("read", errno.EIO, 40), Fault("open", errno.EMFILE, 30), Fault("open", errno.EACCES, 5),
    Fault("rename", errno.EIO, 1), Fault("rename", errno.ENOSPC, 4), Fault("fsync", errno.EIO, 2),
    Fault("flock", errno.ENOSYS, 1), Fault("flock", errno.ENOLCK, 1), Fault("flock", errno.EOPNOTSUPP, 1),
    LittleMemory(30 * 2**20), LittleMemory(80 * 2**20), LittleMemory(150 * 2**20),
]  # fmt: skip
SOME = 3
"""Faults of each verb, unless all are tried; over all verbs each is tried."""
NO_LOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
STATE = Verb(
    command("monitor", "/run", "/test", "--state", "/watch.json"),
    lambda folder: (
        (folder / "watch.json").is_file()
        and len(json.loads((folder / "watch.json").read_text())["stream"]["seen"])
    ),
)
TRIED = {name: verb for name, verb in VERBS.items() if not verb.slow} | {"monitor": STATE}


def faults(place):
    """Those that a verb of this place is tried with."""
    step = len(FAULTS) // SOME
    return FAULTS if ALL else FAULTS[place % step :: step]


def failing(before, folder, verb, tried):
    """Run a verb under each fault and again without; whatever is lost ends it with an AssertionError."""

    def under(fault):
        def action(folder):
            warnings.simplefilter("default")
            fault.begin(folder)
            verb.action(folder)

        return action

    fresh(before, folder)
    old = seen(verb.look, folder)
    done(folder, verb.action)
    new = seen(verb.look, folder)
    for fault in tried:
        fresh(before, folder)
        status = in_child(folder, under(fault))
        said = folder.with_name("said").read_text()
        assert status in (0, REFUSED), f"{fault}: status {status}, {said}"
        assert "Traceback" not in said, f"{fault}: {said}"
        if isinstance(fault, Fault) and fault.number in NO_LOCK:
            assert status == 0, f"{fault}: {said}"
            assert "cannot lock files" in said, f"{fault}: nothing is said, {said}"
        found = seen(verb.look, folder)
        part = verb.grows and found is not None and set(found) <= set(new)
        assert part or found in (old, new), f"{fault}: a reader sees {found}"
        assert status != 0 or found == new, f"{fault}: ended well and left {found}"
        if not (verb.once and found == new) and status != 0:
            done(folder, verb.again or verb.action)
            assert seen(verb.look, folder) == new, f"{fault}: it ends with something else"
        assert not list(folder.rglob(f"{MARK}*")), f"{fault}: unfinished files stay"
    return len(tried)


def fresh(before, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)


def campaign(names):
    """Print what came of each verb, a line of JSON each."""
    with TemporaryDirectory() as temporary:
        before = prepared(Path(temporary).resolve() / "before")
        for place, name in enumerate(names):
            try:
                outcome = {"faults": failing(before, before.with_name("work"), TRIED[name], faults(place))}
            except Exception:
                outcome = {"wrong": traceback.format_exc()}
            print(json.dumps({"verb": name, **outcome}), flush=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library, as Linux does")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, which makes the library that fails")
def test_no_fault_of_the_system_is_a_traceback(tmp_path, monkeypatch):
    library = tmp_path / "failing.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    lines = told_by(__file__, list(TRIED))
    assert all(line["faults"] for line in lines)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    campaign(sys.argv[1:] or list(TRIED))
