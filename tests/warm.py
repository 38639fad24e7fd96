"""Python code in processes of its own that start warm: forks of one that has imported everything.

To import torch, Lightning and conformask takes seconds for every page of the documentation, every example.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from tempfile import TemporaryDirectory


class WarmPython:
    """Runs code as `python -c` does, in a working folder."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, text=True)

    def run(self, code, folder, *arguments):
        """Run code with these arguments; what it said and its exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with TemporaryDirectory() as name:
            streams = [Path(name, stream) for stream in ("out", "err")]
            request = [code, str(folder), arguments, *map(str, streams)]
            print(json.dumps(request), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            return CompletedProcess(code, status, *(path.read_text() for path in streams))

    def close(self):
        """End the process that waits."""
        self._process.communicate()


def import_everything():
    """Import all modules of conformask, but plugins whose library is not installed."""
    import conformask
    from conformask.errors import ConformaskError

    for module in pkgutil.walk_packages(conformask.__path__, "conformask."):
        with suppress(ImportError, ConformaskError):
            importlib.import_module(module.name)


def _serve():
    with warnings.catch_warnings(action="ignore"):
        import_everything()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(code, folder, arguments, out, err):
    os.chdir(folder)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv, status = ["-c", *arguments], 0
    sys.path.insert(0, "")
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
