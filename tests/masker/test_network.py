"""The network that made y_hat is part of the promise."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import conformask as cm
from conformask.cli import main
from conformask.errors import MismatchError
from conformask.images.read import write_image
from conformask.images.rows import Provenance
from conformask.images.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masker.release import release
from conformask.masker.write import write_masks
from conformask.records.reading import Network, check_network
from conformask.scores.scorer import Heuristic
from leaves import asking
from synthetic_triplets import scale_of, triplets

A, B = Network("net", "aaaa"), Network("net", "bbbb")
SCORER = Heuristic(scale_of, channels=1)


def made_by(network: Network | None, seed: int, n: int = 40) -> Triplets:
    return triplets(n, seed).described(Provenance(network=network))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (A, B, True), (A, A, False), (A, Network("renamed", "aaaa"), False), (A, Network("net"), False),
        (A, Network("another"), True), (Network("net"), Network("net"), False),
    ],
)  # fmt: skip
def test_which_networks_are_other(one: Network, other: Network, expected: bool) -> None:
    assert one.is_other(other) is other.is_other(one) is expected


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_rule() -> None:
    assert check_network(None, None, "it", allow_network_mismatch=False) is None
    assert check_network(A, A, "it", allow_network_mismatch=False) is None
    for promised, shown, told in (
        (A, None, "not recorded which network made these"),
        (None, A, "were made by net"),
    ):
        caveat = check_network(promised, shown, "it", allow_network_mismatch=False)
        assert caveat is not None
        assert told in caveat.text
        assert not caveat.other
    with pytest.raises(MismatchError, match=r"another network with that name.*--allow-network-mismatch"):
        check_network(A, B, "it", allow_network_mismatch=False)
    caveat = check_network(A, B, "it", allow_network_mismatch=True)
    assert caveat is not None
    assert caveat.other


@pytest.fixture
def masker() -> Masker:
    return calibrate(SCORER, made_by(A, 0), selection=made_by(A, 1), threshold=0.03, loss="l1")


def session(masker: Masker, data: Triplets, **how) -> object:
    from conformask.extras.view.session import Session

    return Session(masker, data, **how)


def masked(masker: Masker, data: Triplets, folder: Path, **how) -> object:
    return write_masks(masker, data, folder / "out", **how)


USES: dict[str, Callable[..., object]] = {
    "mask": masked,
    "evaluate": lambda masker, data, _, **how: evaluate(masker, data, **how),
    "monitor": lambda masker, data, _, **how: cm.monitor(masker, data, **how),
    "release": lambda masker, data, _, **how: release(masker, data, 0.2, **how),
    "view": lambda masker, data, _, **how: session(masker, data, **how),
}
LEAVES = {"monitor": "watch", "view": "view"}
BY_LEAF = [asking(LEAVES[use], use) if use in LEAVES else use for use in USES]


@pytest.mark.parametrize("use", BY_LEAF)
def test_every_use_asks(masker: Masker, tmp_path: Path, use: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        USES[use](masker, made_by(A, 2), tmp_path / "same")
    with pytest.raises(MismatchError, match="--allow-network-mismatch"):
        USES[use](masker, made_by(B, 2), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.warns(UserWarning, match="another network"):
        USES[use](masker, made_by(B, 2), tmp_path / "anyway", allow_network_mismatch=True)
    with pytest.warns(UserWarning, match="not recorded which network made these"):
        USES[use](masker, made_by(None, 2), tmp_path / "unknown")


@pytest.mark.leaf("train")
def test_calibration_asks_for_the_network_of_the_training(tmp_path: Path) -> None:
    from conformask.extras.train import NetworkOptions, TrainingConfig
    from conformask.extras.train.fit import fit_scorer

    scorer = fit_scorer(
        made_by(A, 3),
        out=tmp_path / "run",
        scorer="mask",
        training=TrainingConfig(epochs=1),
        network=NetworkOptions(width=2),
    )
    assert scorer.about == A
    how = {"threshold": 0.03}
    with pytest.raises(MismatchError, match="the scorer is about outputs of net"):
        calibrate(scorer, made_by(B, 0), **how)
    with pytest.warns(UserWarning, match="another network"):
        masker = calibrate(scorer, made_by(B, 0), **how, allow_network_mismatch=True)
    assert masker.card.network == B, "the promise is about what was calibrated"
    masker.save(tmp_path / "run")
    assert load(tmp_path / "run").card.network == B
    assert "| network | net (bbbb) |" in (tmp_path / "run" / "CARD.md").read_text()
    with pytest.raises(MismatchError, match="net"):
        fit_scorer(
            made_by(A, 3),
            selection=made_by(B, 4),
            out=tmp_path / "mixed",
            training=TrainingConfig(epochs=1),
            network=NetworkOptions(width=2),
        )


@pytest.mark.leaf("view")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_green_for_another_network(masker: Masker) -> None:
    from conformask.extras.view.page import render
    from conformask.extras.view.session import Session
    from conformask.records.facts import verdict

    other = evaluate(masker, made_by(B, 2), allow_network_mismatch=True)
    assert verdict(other).status == "open"
    assert "Not about these images" in render(other)
    session = Session(masker, made_by(B, 2), allow_network_mismatch=True)
    assert session.doubt is not None
    assert session.doubt.name == "broken"
    own = evaluate(masker, made_by(A, 2))
    assert verdict(own).status == "agrees"
    assert Session(masker, made_by(A, 2)).doubt is None


@pytest.mark.quick(1)
@pytest.mark.leaf("train", "view", "watch")
@pytest.mark.parametrize("verb", ["mask", "monitor", "evaluate", "release"])
def test_the_command_line_repeats_no_promise_for_another_network(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measurement is told, but as one of nothing that was promised."""
    from conformask.extras.train import NetworkOptions, TrainingConfig
    from conformask.extras.train.fit import fit_scorer

    calibration, selection = made_by(A, 0, 40), made_by(A, 1, 40)
    scorer = fit_scorer(
        selection,
        selection=made_by(A, 4, 40),
        out=tmp_path / "run",
        training=TrainingConfig(epochs=1),
        network=NetworkOptions(width=2),
    )
    calibrate(scorer, calibration, threshold=0.03).save(tmp_path / "run")
    for role in ("x", "y_hat", "y"):
        for triplet in made_by(B, 2):
            write_image(tmp_path / "data" / role / f"{triplet.name}.npy", getattr(triplet, role))
    Provenance(network=B).save(tmp_path / "data")
    out = {"mask": [str(tmp_path / "masks")], "release": ["--share", "0.1"]}.get(verb, [])
    main([verb, str(tmp_path / "run"), str(tmp_path / "data"), *out, "--allow-network-mismatch"])
    told = capsys.readouterr().out
    assert "P(l1 <=" not in told
    assert "agreement" not in told
    assert told.startswith("NOT PROMISED: the promise is about outputs of net, but these were made by")


def test_triplets_say_their_network(tmp_path: Path) -> None:
    assert Triplets.from_arrays(*[[np.zeros((4, 4), np.float32)]] * 2, network="net").network == Network(
        "net"
    )
    for role in ("x", "y_hat"):
        write_image(tmp_path / role / "a.png", np.zeros((1, 8, 8), np.float32))
    assert Triplets.from_folder(tmp_path).network is None
    assert Triplets.from_folder(tmp_path, network="net").network == Network("net")
    Provenance(network=A).save(tmp_path)
    assert Triplets.from_folder(tmp_path).select([0]).network == A
    with pytest.raises(MismatchError, match=r"triplets\.json states that y_hat was made by net, not another"):
        Triplets.from_folder(tmp_path, network="another")
    (tmp_path / "triplets.json").write_text(json.dumps({"schema": 1, "predictor": "regressor"}))
    assert Triplets.from_folder(tmp_path).network == Network("regressor"), "as conformask 0.1 wrote it"


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.by).clamp(0, 1)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for index in range(3):
        write_image(tmp_path / "data" / "x" / f"{index}.png", np.full((1, 8, 8), index / 4, np.float32))
    for name, by in (("one", 0.1), ("other", 0.2)):
        torch.jit.script(Shift(by)).save(tmp_path / f"{name}.pt")
    return tmp_path / "data"


@pytest.mark.leaf("make")
def test_outputs_say_who_made_them(inputs: Path) -> None:
    from conformask.extras.make.predictors import custom_predictor
    from conformask.extras.make.triplets import add_outputs

    one, other = (custom_predictor(str(inputs.parent / f"{name}.pt")) for name in ("one", "other"))
    add_outputs(inputs, one)
    assert Triplets.from_folder(inputs).network == Network("one.pt", one.fingerprint)
    assert one.fingerprint != other.fingerprint
    assert add_outputs(inputs, other) == 3, "nothing is left to be done"
    assert Triplets.from_folder(inputs).network == Network("one.pt", one.fingerprint)
    (inputs / "y_hat" / "1.png").unlink()
    with pytest.raises(MismatchError, match=r"already contains outputs of one\.pt"):
        add_outputs(inputs, other)
    add_outputs(inputs, one)
    (inputs / "triplets.json").unlink()
    (inputs / "y_hat" / "1.png").unlink()
    with pytest.raises(MismatchError, match="of an unknown network"):
        add_outputs(inputs, one)


@pytest.mark.leaf("make")
def test_a_run_that_was_killed_before_its_first_output_goes_on(inputs: Path) -> None:
    from conformask.extras.make.predictors import custom_predictor
    from conformask.extras.make.triplets import add_outputs

    (inputs / "y_hat").mkdir()
    (inputs / "y").mkdir()
    assert add_outputs(inputs, custom_predictor(str(inputs.parent / "one.pt"))) == 3


@pytest.mark.thorough
@pytest.mark.leaf("make")
def test_a_function_is_known_by_its_code(tmp_path: Path, monkeypatch) -> None:
    from conformask.extras.make.predictors import custom_predictor

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = "FACTOR = {}\ndef run(x):\n    return x * FACTOR\n"
    for name, factor in (("made_a", 1.0), ("made_b", 0.5)):
        (tmp_path / f"{name}.py").write_text(code.format(factor))
    one, other = (custom_predictor(f"{name}:run") for name in ("made_a", "made_b"))
    assert one.name == "made_a:run"
    assert one.fingerprint != other.fingerprint
    assert custom_predictor("made_a:run").fingerprint == one.fingerprint


def test_a_renamed_promise_stays_the_same_masker(masker: Masker) -> None:
    renamed = replace(masker, card=replace(masker.card, network=None))
    assert renamed.fingerprint != masker.fingerprint, "the network is part of the promise"
