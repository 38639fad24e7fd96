"""Two processes: started by Lightning, or by torchrun as docs/how-to/large-images.md says."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformask.cli import main
from conformask.images.read import write_image
from conformask.masker.run_folder import read_stored

COMMAND = Path(sys.executable).with_name("conformask")
COUNT = 150


def written(folder, count, seed):
    generator = np.random.default_rng(seed)
    for index in range(count):
        y, noise = generator.random((2, 1, 16, 16)).astype(np.float32)
        y_hat = (y + 0.3 * generator.random() * (noise - 0.5)).clip(0, 1)
        for role, image in (("x", y), ("y_hat", y_hat), ("y", y)):
            write_image(folder / role / f"{index}.png", image)
    return folder


def run(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(word) for word in (COMMAND, *words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = written(folder / "train", 12, 0)
    main([str(word) for word in ("train", data, folder / "one", "--epochs", "1", "--width", "4", "--json")])
    written(folder / "calibration", COUNT, 1)
    return folder


@pytest.mark.slow
def test_lambda_agrees_with_one_process(trained):
    two = shutil.copytree(trained / "one", trained / "two")
    verb = (trained / "calibration", "--threshold", "0.02", "--confidence", "0.9", "--json")
    told = [
        json.loads(run("calibrate", trained / "one", *verb)),
        json.loads(run("calibrate", two, *verb, "--devices", "2")),
    ]
    assert told[0]["n_calibration"] == told[1]["n_calibration"] == COUNT
    assert 0 < told[0]["lam"] < np.inf
    assert told[1]["lam"] == pytest.approx(told[0]["lam"], rel=1e-6)
    one, both = (read_stored(trained / name) for name in ("one", "two"))
    assert one.curves.names.tolist() == both.curves.names.tolist()
    for of in (lambda s: s.critical_lambdas, lambda s: s.curves.loss, lambda s: s.curves.size):
        np.testing.assert_allclose(of(both), of(one), rtol=1e-5, atol=1e-7)
    assert both.card.promise == one.card.promise
    assert not (two / "calibrating").exists()


@pytest.mark.slow
def test_an_evaluation_is_that_of_one_process(trained, capsys):
    new = written(trained / "new", 70, 2)
    main([*map(str, ("calibrate", trained / "one", trained / "calibration", "--threshold", "0.02"))])
    capsys.readouterr()
    main(["evaluate", str(trained / "one"), str(new), "--json"])
    alone = json.loads(capsys.readouterr().out)
    shared = json.loads(run("evaluate", trained / "one", new, "--json", "--devices", "2"))
    assert "--devices 2" in shared["made"].pop("command")
    del alone["made"]["command"]
    assert shared == alone
    assert not (trained / "one" / "evaluating").exists()


PAGE = Path(__file__).parents[2] / "docs/how-to/large-images.md"
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def here(text, made, out):
    """The lines of the page with the folders of this test, on this machine."""
    names = {
        "RUN": made / "run",
        "DATA": made / "data",
        "OUT": out,
        "HOST": "127.0.0.1",
        "29500": free_port(),
    }
    return re.sub(r"(?<![\w$])(RUN|DATA|OUT|HOST|29500)(?![\w=])", lambda name: str(names[name[1]]), text)


def environment(**more):
    path = f"{more.pop('PATH', '')}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **more}


def masks(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "masks"
    subprocess.run([BIN / "conformask", "mask", made / "run", made / "data", out], check=True)
    return masks(out)


@pytest.mark.slow
def test_torchrun_on_two_machines(made, alone, tmp_path):
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
def test_sbatch(made, alone, tmp_path):
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
def test_other_numbers_are_refused(made, tmp_path):
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
