"""A promise holds for the code and the network that were calibrated, and for no other."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

import conformask as cm
from conformask.arrays import Score
from conformask.background import Compute
from conformask.cli import main
from conformask.errors import CalibrationError, MismatchError
from conformask.images.read import write_image
from conformask.images.rows import Provenance
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.load import load
from conformask.masker.release import release
from conformask.masker.write import write_masks
from conformask.masks.critical import loss_under, measures
from conformask.masks.families import Reciprocal
from conformask.promises.promise import Promise
from conformask.records.reading import Network, check_network
from conformask.scores.scorer import Heuristic, Tiled
from conformask.scores.scoring import selection_record
from conformask.scores.simple import local_spread
from leaves import asking
from made_maskers import calibrated
from synthetic_triplets import arrays, scale_of, signed, triplets

CALIBRATION, SELECTION, TEST = triplets(40, 0), triplets(30, 1), next(triplets(200, 2).batches(200))
SCORER = Heuristic(scale_of, channels=1)


def named(function, name):
    function.__name__ = name
    return function


def quarter(x, y_hat):
    return scale_of(x, y_hat) / 4


def saved(folder, scorer=SCORER, distance="l1", **more):
    return calibrated(scorer, CALIBRATION, threshold=0.03, distance=distance, **more).save(folder)


def test_a_changed_score_is_refused_under_the_same_name(tmp_path):
    masker = saved(tmp_path)
    changed = Heuristic(named(quarter, "scale_of"), channels=1)
    mask = replace(masker, scorer=changed)(TEST.x, TEST.y_hat)
    kept = loss_under(masker.loss, mask, TEST) <= 0.03
    assert kept.float().mean() < 0.5, "the promise of 0.9 would not hold"
    with pytest.raises(MismatchError, match="the code or the weights of scorer= have changed"):
        load(tmp_path, scorer=changed)
    load(tmp_path, scorer=Heuristic(scale_of, channels=1))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x, y_hat):
        return scale_of(x, y_hat) * self.gain


def test_other_weights_are_refused_at_save_and_at_load(tmp_path):
    network = Net()
    masker = calibrate(Heuristic(network, channels=1), CALIBRATION, threshold=0.03, loss="l1")
    masker.save(tmp_path / "run")
    load(tmp_path / "run", scorer=Heuristic(network, channels=1))
    with torch.no_grad():
        network.gain.mul_(0.25)
    with pytest.raises(MismatchError, match="scorer="):
        load(tmp_path / "run", scorer=Heuristic(network, channels=1))
    with pytest.raises(MismatchError, match="scorer="):
        masker.save(tmp_path / "again")


HIDDEN = {"factor": 1.0}


def hidden(x, y_hat):
    return scale_of(x, y_hat) * HIDDEN["factor"]


@pytest.mark.parametrize("tiled", [False, True])
def test_other_values_are_refused_where_the_code_looks_the_same(tmp_path, monkeypatch, tiled):
    scorer = Heuristic(hidden, channels=1)
    scorer = Tiled(scorer) if tiled else scorer
    saved(tmp_path, scorer)
    load(tmp_path, scorer=scorer)
    monkeypatch.setitem(HIDDEN, "factor", 0.25)
    with pytest.raises(MismatchError, match="the values of scorer= on a test image have changed"):
        load(tmp_path, scorer=scorer)
    monkeypatch.setitem(HIDDEN, "factor", 1 + 1e-5)
    load(tmp_path, scorer=scorer)


def test_another_distance_of_the_same_name_is_refused(tmp_path):
    own = loss(signed)
    knowing = replace(SCORER, selection=selection_record(SCORER, SELECTION, own, [Reciprocal()]))
    saved(tmp_path, knowing, distance=signed)
    load(tmp_path, scorer=SCORER, loss=signed)

    def other(a, b):
        return signed(a, b) / 4

    with pytest.raises(MismatchError, match="loss="):
        load(tmp_path, scorer=SCORER, loss=named(other, "signed"))


def test_another_weight_is_refused(tmp_path):
    def weight(x, y_hat):
        return 0.5 + x.flatten(1).mean(1)

    def other(x, y_hat):
        return 0.6 + x.flatten(1).mean(1)

    saved(tmp_path, guarantee="weighted", weight=weight)
    load(tmp_path, scorer=SCORER, weight=weight)
    with pytest.raises(MismatchError, match="weight="):
        load(tmp_path, scorer=SCORER, weight=named(other, "weight"))


@dataclass(frozen=True)
class Shifted(Reciprocal):
    """A family of one's own."""

    shift: float = 0.0

    def settings(self):
        return {"name": "reciprocal"}


def test_another_family_is_refused(tmp_path):
    saved(tmp_path, family=Shifted())
    load(tmp_path, scorer=SCORER, family=Shifted())
    with pytest.raises(MismatchError, match="family="):
        load(tmp_path, scorer=SCORER, family=Shifted(1.0))


def test_a_masker_whose_code_is_unknown_is_loaded(tmp_path):
    """As conformask 0.1 left them."""
    masker = calibrate(SCORER, CALIBRATION, threshold=0.03, loss="l1")
    replace(masker, card=replace(masker.card, code={}), probe=None).save(tmp_path)
    again = load(tmp_path, scorer=SCORER)
    np.testing.assert_array_equal(again(TEST.x, TEST.y_hat), masker(TEST.x, TEST.y_hat))


class StoppedError(Exception):
    """Stands for a kill."""


def interrupted(out, calibration, **more):
    """A calibration that is killed after the first of its parts."""
    measured = measures

    def once(item, *arguments, **named):
        if item.names[0] != calibration.names[0]:
            raise StoppedError
        return measured(item, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conformask.masker.case.measures", once)
        with pytest.raises(StoppedError):
            calibrated(SCORER, calibration, threshold=0.03, compute=Compute(parts=out), **more)
    assert len(list(out.glob("part-*"))) == 1


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr("conformask.scores.scoring.PART", 16)
    return tmp_path / "parts"


def test_a_resumed_calibration_takes_up_no_parts_of_other_images(parts):
    """The same names, but the network's outputs were made anew between kill and resume."""
    x, y_hat, y = arrays(40, 0)
    before = Triplets.from_arrays(x, y_hat, y)
    after = Triplets.from_arrays(x, (y + 3 * (y_hat - y)).clip(0, 1), y)
    interrupted(parts, before)
    resumed = calibrate(SCORER, after, threshold=0.03, loss="l1", compute=Compute(parts=parts))
    anew = calibrate(SCORER, after, threshold=0.03, loss="l1")
    np.testing.assert_array_equal(resumed.critical_lambdas, anew.critical_lambdas)


def test_a_resumed_calibration_takes_up_no_parts_of_other_weights(parts):
    def heavy(x, y_hat):
        return 1 + x.mean((1, 2, 3))

    def light(x, y_hat):
        return 1 + y_hat.mean((1, 2, 3))

    weighted = {"threshold": 0.03, "guarantee": "weighted", "selection": SELECTION}
    interrupted(parts, CALIBRATION, weight=heavy, guarantee="weighted", selection=SELECTION)
    changed = named(light, "heavy")
    resumed = calibrated(SCORER, CALIBRATION, weight=changed, compute=Compute(parts=parts), **weighted)
    anew = calibrated(SCORER, CALIBRATION, weight=changed, **weighted)
    np.testing.assert_array_equal(resumed.curves.weight, anew.curves.weight)


def by_the_batch(x, y_hat):
    return x / x.amax()


def by_the_largest_spread(x, y_hat):
    """The negative of an image has the same."""
    spread = local_spread(x, y_hat)
    return spread / spread.amax()


def by_the_mean_difference(x, y_hat):
    """The same."""
    difference = (x - y_hat).abs()
    return difference / difference.mean()


def by_chance(x, y_hat):
    return x + torch.rand(())


class Normalised(nn.Module):
    """In training mode a batch norm looks at the batch."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x, y_hat):
        return self.norm(x).abs()


class WithFeatures(Heuristic):
    def __call__(self, x, y_hat):
        return Score(x, x.mean((2, 3)) - x.mean())


@pytest.mark.parametrize(
    "scorer",
    [
        Heuristic(by_the_batch, channels=1),
        Heuristic(by_the_largest_spread, channels=1),
        Heuristic(by_the_mean_difference, channels=1),
        Heuristic(by_chance, channels=1),
        Heuristic(Normalised(), channels=1),
        WithFeatures(scale_of, channels=1),
    ],
    ids=["by the batch", "largest spread", "mean difference", "by chance", "batch norm", "features"],
)
def test_a_score_that_depends_on_its_batch(scorer):
    with pytest.raises(CalibrationError, match=r"score .* of an image differs by"):
        calibrate(scorer, triplets(20, 0), threshold=0.03, loss="l1")


def test_a_distance_that_depends_on_its_batch():
    def relative(a, b):
        return (a - b).abs().mean((1, 2, 3)) / (a - b).abs().max().clamp(min=1e-6)

    with pytest.raises(CalibrationError, match="distance 'relative' of an image differs"):
        calibrate(
            Heuristic(scale_of, channels=1),
            triplets(20, 0),
            threshold=0.03,
            loss=relative,
            selection=triplets(10, 1),
        )


def test_a_weight_that_depends_on_its_batch():
    def share(x, y_hat):
        return y_hat.mean((1, 2, 3)) / y_hat.mean((1, 2, 3)).sum()

    with pytest.raises(CalibrationError, match="weight= of an image differs"):
        calibrate(
            Heuristic(scale_of, channels=1),
            triplets(40, 0),
            threshold=0.03,
            loss="l1",
            promise=Promise("weighted", weight=share),
        )


def test_a_module_in_eval_mode_is_a_score():
    masker = calibrate(Heuristic(Normalised().eval(), channels=1), triplets(40, 0), threshold=0.03, loss="l1")
    batch = next(triplets(4, 1).batches(4))
    assert not masker(batch.x, batch.y_hat).isnan().any()


A, B = Network("net", "aaaa"), Network("net", "bbbb")


def made_by(network, seed, n=40):
    return triplets(n, seed).described(Provenance(network=network))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (A, B, True), (A, A, False), (A, Network("renamed", "aaaa"), False), (A, Network("net"), False),
        (A, Network("another"), True), (Network("net"), Network("net"), False),
    ],
)  # fmt: skip
def test_which_networks_are_other(one, other, expected):
    assert one.is_other(other) is other.is_other(one) is expected


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_rule():
    assert check_network(None, None, "it", any_network=False) is None
    assert check_network(A, A, "it", any_network=False) is None
    for promised, shown, told in (
        (A, None, "not recorded which network made these"),
        (None, A, "were made by net"),
    ):
        caveat = check_network(promised, shown, "it", any_network=False)
        assert caveat is not None
        assert told in caveat.text
        assert not caveat.other
    with pytest.raises(MismatchError, match=r"another network with that name.*--allow-network-mismatch"):
        check_network(A, B, "it", any_network=False)
    caveat = check_network(A, B, "it", any_network=True)
    assert caveat is not None
    assert caveat.other


@pytest.fixture
def masker():
    return calibrate(SCORER, made_by(A, 0), selection=made_by(A, 1), threshold=0.03, loss="l1")


def session(masker, data, **how):
    from conformask.extras.view.session import Session

    return Session(masker, data, **how)


def masked(masker, data, folder, **how):
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
def test_every_use_asks(masker, tmp_path, use):
    with warnings.catch_warnings(action="error"):
        USES[use](masker, made_by(A, 2), tmp_path / "same")
    with pytest.raises(MismatchError, match="--allow-network-mismatch"):
        USES[use](masker, made_by(B, 2), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.warns(UserWarning, match="another network"):
        USES[use](masker, made_by(B, 2).of_any_network(), tmp_path / "anyway")
    with pytest.warns(UserWarning, match="not recorded which network made these"):
        USES[use](masker, made_by(None, 2), tmp_path / "unknown")


@pytest.mark.leaf("train")
def test_calibration_asks_for_the_network_of_the_training(tmp_path):
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
        masker = calibrate(scorer, made_by(B, 0).of_any_network(), **how)
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
def test_no_green_for_another_network(masker):
    from conformask.extras.view.facts import verdict
    from conformask.extras.view.page import render
    from conformask.extras.view.session import Session

    other = evaluate(masker, made_by(B, 2).of_any_network())
    assert verdict(other).status == "open"
    assert "Not about these images" in render(other)
    session = Session(masker, made_by(B, 2).of_any_network())
    assert session.doubt is not None
    assert session.doubt.name == "broken"
    own = evaluate(masker, made_by(A, 2))
    assert verdict(own).status == "agrees"
    assert Session(masker, made_by(A, 2)).doubt is None


@pytest.mark.quick(1)
@pytest.mark.leaf("train", "view", "watch")
@pytest.mark.parametrize("verb", ["mask", "monitor", "evaluate", "release"])
def test_the_command_line_repeats_no_promise_for_another_network(verb, tmp_path, capsys):
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


def test_triplets_say_their_network(tmp_path):
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
    def __init__(self, by):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x):
        return (x + self.by).clamp(0, 1)


@pytest.fixture
def inputs(tmp_path):
    for index in range(3):
        write_image(tmp_path / "data" / "x" / f"{index}.png", np.full((1, 8, 8), index / 4, np.float32))
    for name, by in (("one", 0.1), ("other", 0.2)):
        torch.jit.script(Shift(by)).save(tmp_path / f"{name}.pt")
    return tmp_path / "data"


@pytest.mark.leaf("make")
def test_outputs_say_who_made_them(inputs):
    from conformask.extras.make.predictors import custom_predictor
    from conformask.extras.make.triplets import add_outputs

    one, other = (custom_predictor(str(inputs.parent / f"{name}.pt")) for name in ("one", "other"))
    add_outputs(inputs, one)
    assert Triplets.from_folder(inputs).network == Network("one.pt", one.fingerprint)
    assert one.fingerprint != other.fingerprint
    assert add_outputs(inputs, one) == 3, "nothing is left to be done"
    retrained = custom_predictor(str((inputs.parent / "other.pt").rename(inputs.parent / "one.pt")))
    for complete in (True, False):
        if not complete:
            (inputs / "y_hat" / "1.png").unlink()
        with pytest.raises(MismatchError, match=r"outputs of one\.pt, not of other\.pt: move them"):
            add_outputs(inputs, other)
        with pytest.raises(MismatchError, match=r"outputs of one\.pt, not of this other version: move them"):
            add_outputs(inputs, retrained)
    add_outputs(inputs, one)
    assert Triplets.from_folder(inputs).network == Network("one.pt", one.fingerprint)
    (inputs / "triplets.json").unlink()
    (inputs / "y_hat" / "1.png").unlink()
    with pytest.raises(MismatchError, match="of an unknown network"):
        add_outputs(inputs, one)


@pytest.mark.leaf("make")
def test_a_run_that_was_killed_before_its_first_output_goes_on(inputs):
    from conformask.extras.make.predictors import custom_predictor
    from conformask.extras.make.triplets import add_outputs

    (inputs / "y_hat").mkdir()
    (inputs / "y").mkdir()
    assert add_outputs(inputs, custom_predictor(str(inputs.parent / "one.pt"))) == 3


@pytest.mark.thorough
@pytest.mark.leaf("make")
def test_a_function_is_known_by_its_code(tmp_path, monkeypatch):
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


def test_a_renamed_promise_stays_the_same_masker(masker):
    renamed = replace(masker, card=replace(masker.card, network=None))
    assert renamed.fingerprint != masker.fingerprint, "the network is part of the promise"
