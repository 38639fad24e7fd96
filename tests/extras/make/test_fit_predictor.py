"""Predictors trained here: a regressor, and a conditional GAN."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.make.regressor import KINDS, adversarial, fit_predictor
from conformask.extras.make.tasks import task
from conformask.extras.make.triplets import TrueImages, predictor_named
from conformask.extras.train import TrainingConfig
from conformask.extras.train.training import Adversarial, Budget, realness_loss
from conformask.images.read import write_image
from conformask.scores.networks import UNet

SIZE = 16
TRAINING = TrainingConfig(epochs=3, batch_size=4, learning_rate=2e-3)
COLUMNS = ["loss", "adversarial_loss", "discriminator_loss", "selection_loss"]


def images(channels=3):
    """Slopes in two colours."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    slopes = {
        f"{index}": (np.stack([a * rows + b * columns] * 3, axis=-1) * 100 + 40).astype(np.uint8)
        for index, (a, b) in enumerate(generator.random((40, 2)))
    }
    return TrueImages.from_arrays(slopes, SIZE, None, split="file", seed=0)


ALL = images()
TRAIN, SELECTION = ALL.part("train"), ALL.part("selection")


def train(out, kind="gan", name="completion", training=TRAINING, **settings):
    return fit_predictor(
        TRAIN,
        SELECTION,
        task=task(name),
        size=SIZE,
        out=out,
        training=training,
        kind=kind,
        width=4,
        **settings,
    )


def rows(out):
    with (out / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(one, other):
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["completion", "super_resolution", "colorization"])
def test_every_kind_for_every_task(tmp_path, kind, name):
    predictor = train(tmp_path, kind, name, TrainingConfig(epochs=1, batch_size=8))
    assert (predictor.name, predictor.kind, predictor.task.name) == (kind, kind, name)
    card = json.loads((tmp_path / "predictor.json").read_text())
    assert card["kind"] == kind
    x = predictor.task.degrade(predictor.task.truth(torch.rand(2, 3, SIZE, SIZE)))
    y_hat = predictor(x)
    assert y_hat.shape == (2, 1 if name == "completion" else 3, SIZE, SIZE)
    assert 0 <= float(y_hat.min()) <= float(y_hat.max()) <= 1
    again = predictor_named(str(tmp_path), predictor.task)
    assert torch.equal(again(x), y_hat)
    assert again.name == kind
    assert again.trained_on == predictor.trained_on
    assert len(again.trained_on) == len(TRAIN)


def test_both_losses_are_recorded_and_the_generator_learns(tmp_path):
    train(tmp_path, training=TrainingConfig(epochs=8, batch_size=4, learning_rate=2e-3))
    written = rows(tmp_path)
    assert list(written[0]) == ["epoch", "step", *COLUMNS, "learning_rate"]
    assert all(math.isfinite(float(row[column])) for row in written for column in COLUMNS)
    steps = len(TRAIN) // 4
    assert [int(row["step"]) for row in written] == [steps * (k + 1) for k in range(8)], "a step is a batch"
    assert float(written[-1]["selection_loss"]) < 0.8 * float(written[0]["selection_loss"])
    for row in written:
        loss, adversarial_loss = float(row["loss"]), float(row["adversarial_loss"])
        assert loss > adversarial_loss > 0, "20 * L1 is added"
        assert 0 < float(row["discriminator_loss"]) < 3


def test_only_the_generator_is_stored_for_use(tmp_path):
    predictor = train(tmp_path)
    weights = load_file(tmp_path / "predictor.safetensors")
    assert set(weights) == set(predictor.network.state_dict())
    assert not any("discriminator" in path.name for path in tmp_path.rglob("*"))
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    prefixes = {name.split(".")[0] for name in kept["state_dict"]}
    assert prefixes == {"network", "discriminator"}
    assert [len(state["state"]) for state in kept["optimizer_states"]] == [
        len(list(network.parameters()))
        for network in (
            predictor.network,
            adversarial(predictor.network, predictor.task, TRAINING).discriminator,
        )
    ]


def test_the_last_epoch_is_kept(tmp_path, monkeypatch):
    original = Adversarial.validation_step

    def growing(self, batch, index):
        original(self, batch, index)
        self.log("selection_loss", float(self.current_epoch), on_epoch=True, batch_size=len(batch[0]))

    monkeypatch.setattr(Adversarial, "validation_step", growing)
    predictor = train(tmp_path)
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in predictor.network.state_dict().items():
        assert torch.equal(kept[f"network.{name}"], weight), name


def test_a_killed_gan_resumes_to_the_same_state(tmp_path, monkeypatch):
    original = Budget.on_train_batch_start

    def killed(self, trainer, module, batch, index):
        if trainer.current_epoch == 1 and index == 1:
            raise KeyboardInterrupt
        original(self, trainer, module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_train_batch_start", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed")
    resumed, whole = (
        train(tmp_path / "killed", training=replace(TRAINING, resume=True)),
        train(tmp_path / "whole"),
    )
    assert_same(resumed.network, whole.network)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    one, two = (
        torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)
        for folder in ("killed", "whole")
    )
    for name, weight in one["state_dict"].items():
        assert torch.equal(weight, two["state_dict"][name]), name
    for mine, other in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        for key, state in mine["state"].items():
            assert all(torch.equal(state[k], other["state"][key][k]) for k in state)


def test_patience_of_a_gan_is_by_the_l1_of_the_generator(tmp_path):
    train(tmp_path, training=TrainingConfig(epochs=12, patience=1, batch_size=4, learning_rate=0.1))
    losses = [float(row["selection_loss"]) for row in rows(tmp_path)]
    assert len(losses) < 12
    assert losses[-1] >= min(losses[:-1])


def test_the_discriminator_sees_what_the_task_composes():
    completion = task("completion")
    module = adversarial(UNet(1, 1, width=4, levels=2), completion, TRAINING)
    y = torch.rand(2, 1, SIZE, SIZE)
    x = completion.degrade(y)
    seen = []
    module.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    composed, y_hat, truth = module.generate(module.network, [x, y])
    for image in (truth, y_hat):
        module._logits(composed, image)
    real, made = seen
    known = ~completion.hole(SIZE, SIZE)
    assert torch.equal(real[:, :1], made[:, :1]), "conditioned on the same x"
    assert torch.equal(real[:, 1][:, known], made[:, 1][:, known])
    assert not torch.equal(real[:, 1][:, ~known], made[:, 1][:, ~known])
    torch.testing.assert_close(real, 2 * torch.cat([x, y], 1) - 1)


def test_realness_loss_is_in_float32():
    logits = torch.tensor([-2.0, 3.0]).view(2, 1, 1, 1).bfloat16()
    assert float(realness_loss(logits, real=True)) == pytest.approx((math.log(1 + math.e**2) + 0.0485874) / 2)
    fake = realness_loss(logits, real=False)
    assert float(fake) == pytest.approx((0.126928 + math.log(1 + math.e**3)) / 2)
    assert fake.dtype == torch.float32


def test_losses_are_finite_in_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr("conformask.extras.train.training.best_precision", lambda: "bf16-mixed")
    predictor = train(tmp_path)
    assert all(math.isfinite(float(row[column])) for row in rows(tmp_path) for column in COLUMNS)
    assert {weight.dtype for weight in predictor.network.parameters()} == {torch.float32}


def test_what_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"kind 'gna' is unknown.*did you mean 'gan'"):
        train(tmp_path / "a", "gna")
    training = TrainingConfig(epochs=1)
    train(tmp_path / "b", "gan", training=training)
    with pytest.raises(MismatchError, match=r"different settings \(kind\)"):
        train(tmp_path / "b", "regressor", training=replace(training, resume=True))


def test_a_card_without_a_kind_is_a_regressor(tmp_path):
    train(tmp_path, "regressor", training=TrainingConfig(epochs=1), paper_form=True)
    card = json.loads((tmp_path / "predictor.json").read_text())
    assert card["network"]["paper_form"]
    del card["kind"]
    (tmp_path / "predictor.json").write_text(json.dumps(card))
    assert NetworkPredictor.load(tmp_path).kind == "regressor"


def test_on_the_command_line(tmp_path, capfd):
    for index in range(len(ALL)):
        write_image(tmp_path / "images" / f"{index}.png", ALL[index][1])
    verb = ["predictor", str(tmp_path / "images"), str(tmp_path / "run"), "--task", "super_resolution"]
    paper = ["--kind", "gan", "--epochs", "10", "--learning-rate", "1e-5", "--batch-size", "50"]
    main([*verb, *paper, "--size", str(SIZE), "--width", "4", "--patience", "10", "--json"])
    record = json.loads(capfd.readouterr().out)
    assert record["kind"] == "gan"
    assert {float(row["learning_rate"]) for row in rows(tmp_path / "run")} == {1e-5}
    assert NetworkPredictor.load(tmp_path / "run").kind == "gan"
