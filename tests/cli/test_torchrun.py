"""The lines of docs/how-to/large-images.md, run by two processes on this machine instead of two machines."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/large-images.md"
BIN = Path(sys.executable).parent


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def here(text: str, made: Path, out: Path) -> str:
    """The lines of the page with the folders of this test, on this machine."""
    names = {
        "RUN": made / "run",
        "DATA": made / "data",
        "OUT": out,
        "HOST": "127.0.0.1",
        "29500": free_port(),
    }
    return re.sub(r"(?<![\w$])(RUN|DATA|OUT|HOST|29500)(?![\w=])", lambda name: str(names[name[1]]), text)


def environment(**more: str) -> dict[str, str]:
    path = f"{more.pop('PATH', '')}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **more}


def masks(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("alone") / "masks"
    subprocess.run([BIN / "conformask", "mask", made / "run", made / "data", out], check=True)
    return masks(out)


@pytest.mark.slow
def test_torchrun_on_two_machines(made: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    (text,) = blocks("text")
    lines = here(text, made, tmp_path / "masks").strip().splitlines()
    assert len(lines) == 2
    started = [
        subprocess.Popen(line.split(), env=environment(), stderr=subprocess.PIPE, text=True) for line in lines
    ]
    for process in started:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
        assert "another process" not in said
    assert masks(tmp_path / "masks") == alone


SRUN = f"""#!{sys.executable}
import os, subprocess, sys
started = [
    subprocess.Popen(sys.argv[1:], env={{**os.environ, "SLURM_NODEID": str(node), "SLURM_PROCID": str(node)}})
    for node in range(2)
]
sys.exit(max(process.wait() for process in started))
"""


@pytest.mark.slow
def test_sbatch(made: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    """The script of the page, with an srun that starts its command twice on this machine."""
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/sh\necho 127.0.0.1\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (text,) = blocks("sh")
    (tmp_path / "job.sh").write_text(here(text, made, tmp_path / "masks"))
    slurm = {"SLURM_JOB_NODELIST": "two", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", tmp_path / "job.sh"],
        env=environment(PATH=str(tmp_path), **slurm),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert masks(tmp_path / "masks") == alone


@pytest.mark.slow
def test_other_numbers_are_refused(made: Path, tmp_path: Path) -> None:
    words = "torchrun --nnodes 1 --nproc-per-node 2 --no-python conformask mask RUN DATA OUT"
    command = here(words, made, tmp_path / "masks").split()
    done = subprocess.run(
        [*command[:5], "--master-port", free_port(), *command[5:]],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode != 0
    assert "torchrun started 2 processes, but --devices and --nodes specify 1" in done.stderr
    assert not (tmp_path / "masks").exists()
