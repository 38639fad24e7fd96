"""Two processes on the CPU: Lightning starts the same command again for each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conformask.background import check_processes, main_process
from conformask.cli import main
from conformask.errors import InvalidArgumentError
from conformask.images.read import write_image
from conformask.records.selection import Selection
from conformask.scores.network_scorer import load_scorer

COMMAND = Path(sys.executable).with_name("conformask")
SCRIPT = """
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from conformask.extras.train import TrainingConfig
from conformask.extras.train.training import fit
from conformask.background import Compute, main_process

out, seen = Path(sys.argv[1]), []

class World(torch.utils.data.Dataset):
    def __len__(self):
        return 11

    def __getitem__(self, index):
        seen.append(index)
        time.sleep(0.02 * int(os.environ.get("LOCAL_RANK", 0)))  # so that it keeps more time for what follows
        generator = torch.Generator().manual_seed(index % 11)
        x = torch.rand(1, 4, 4, generator=generator)
        return x, 1 - x

def squares(network, batch):
    return (network(batch[0]) - batch[1]).square().mean((1, 2, 3))

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
plan = TrainingConfig(max_minutes=1 / 60, batch_size=16, learning_rate=0.1)
fit(network, squares, World(), World(), out / "run", plan, Compute(2), title="test", identity={})
rank = torch.distributed.get_rank()
assert main_process() == (rank == 0)
torch.save({"seen": seen, "weights": network.state_dict()}, out / f"{rank}.pt")
torch.distributed.barrier()  # Lightning ends the other processes with the first
"""


pytestmark = pytest.mark.xdist_group("processes")
"""Two runs of two processes beside each other would wait for each other's turns on two cores."""


def run(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def columns(path):
    return path.read_text().splitlines()[0].split(",")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for index in range(8):
        y = generator.random((1, 16, 16)).astype(np.float32)
        noise = 0.2 * generator.random((1, 16, 16)).astype(np.float32)
        for role, image in (("x", y), ("y_hat", (y + noise).clip(0, 1)), ("y", y)):
            write_image(folder / role / f"{index}.png", image)
    return folder


@pytest.mark.slow
def test_a_run_of_two_processes_is_like_that_of_one(data, tmp_path):
    verb = ["train", data, "--epochs", "1", "--width", "4", "--seed", "4", "--json"]
    main([str(word) for word in (*verb, tmp_path / "one")])
    told = run([COMMAND, *verb, tmp_path / "two", "--devices", "2"])
    assert json.loads(told)["scorer"] == "mask", "only the first process prints"
    one, two = (
        sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*"))
        for name in ("one", "two")
    )
    assert one == two
    assert columns(tmp_path / "one" / "metrics.csv") == columns(tmp_path / "two" / "metrics.csv")
    for name in ("scorer.json", "training.json"):
        both = [json.loads((tmp_path / folder / name).read_text()) for folder in ("one", "two")]
        for record in both:
            record.pop("fingerprint", None)  # two processes round the weights differently
        assert both[0] == both[1], name
    scorers = [load_scorer(tmp_path / folder) for folder in ("one", "two")]
    shapes = [{k: v.shape for k, v in scorer.network.state_dict().items()} for scorer in scorers]
    assert shapes[0] == shapes[1]
    records = [Selection.load(tmp_path / folder) for folder in ("one", "two")]
    np.testing.assert_array_equal(records[0].unmasked_loss, records[1].unmasked_loss)
    best = load_file(tmp_path / "two" / "checkpoints" / "best.safetensors")
    assert all(torch.equal(best[k], v) for k, v in scorers[1].network.state_dict().items())


@pytest.mark.slow
def test_processes_share_the_images_and_end_with_the_same_weights(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run([sys.executable, script, tmp_path])
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, weight in one["weights"].items():
        assert torch.equal(weight, two["weights"][name]), name
    epochs = max(one["seen"]) // 11
    assert epochs > 0
    assert len(one["seen"]) == len(two["seen"]), "both take the same steps within the minutes"
    for epoch in range(1, epochs):
        dealt = [{i for i in process["seen"] if i // 11 == epoch} for process in (one, two)]
        assert [len(share) for share in dealt] == [6, 6]
        assert {i % 11 for share in dealt for i in share} == set(range(11))


def test_alone_it_is_the_first():
    assert main_process()


def test_one_that_is_not_the_first_is_refused_before_the_work(monkeypatch):
    check_processes(1)
    monkeypatch.setenv("NODE_RANK", "1")
    check_processes(2)
    with pytest.raises(InvalidArgumentError, match=r"NODE_RANK .* specify one"):
        check_processes(1)
