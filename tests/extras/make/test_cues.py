"""Maps made by more passes of a network: flips, samples and the residual."""

from contextlib import nullcontext
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.cli import main
from conformask.errors import InvalidArgumentError, MismatchError, OutputError
from conformask.extras.make.predictors import CueRecipe, CustomPredictor, custom_predictor, symmetries
from conformask.extras.make.tasks import Completion
from conformask.extras.make.triplets import TrueImages, add_outputs, write_triplets
from conformask.images.check import check_triplets
from conformask.images.read import read_image as read_mask, write_image
from conformask.masker.write import write_masks
from conformask.records.reading import Reading
from untyped import UNTYPED


def network(run):
    return CustomPredictor(run, "network", "1f")


PLANE, VOLUME = (2, 3, 6, 8), (1, 1, 4, 6, 8)


def images(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [PLANE, VOLUME], ids=["planes", "volumes"])
def test_each_symmetry_is_undone_and_none_comes_twice(shape):
    x = images(shape)
    pairs = list(symmetries(len(shape) - 2))
    assert len(pairs) == 8
    assert torch.equal(pairs[0][0](x), x)
    for turn, back in pairs:
        assert torch.equal(back(turn(x)), x)
    assert len({(turn(x).shape, tuple(turn(x).flatten().tolist())) for turn, _ in pairs}) == 8


def test_a_network_that_turns_with_its_input_has_no_spread():
    (y_hat,), spread = CueRecipe.of("flips")(network(lambda x: x**2), images(PLANE))
    assert torch.equal(y_hat, images(PLANE) ** 2)
    assert spread.abs().max() < 1e-6
    assert spread.shape == (2, 1, 6, 8)


def test_flips_are_the_deviation_over_eight_outputs():
    """By numpy alone, of a network that looks at its left neighbour."""

    def left(x):
        return (x + x.roll(1, dims=-1)) / 2

    x = images((1, 1, 5, 5)).numpy()[0, 0]
    outputs = []
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(x[:, ::-1] if flip else x, turns)
            made = np.rot90((turned + np.roll(turned, 1, axis=1)) / 2, -turns)
            outputs.append(made[:, ::-1] if flip else made)
    _, spread = CueRecipe.of("flips")(network(left), images((1, 1, 5, 5)))
    np.testing.assert_allclose(spread[0, 0], np.std(outputs, axis=0), atol=1e-6)


def test_samples_are_the_deviation_over_draws_and_the_first_is_shown():
    draws = [images(PLANE, seed) for seed in range(5)]
    left = iter(draws)
    (y_hat,), spread = CueRecipe.of("samples,5")(network(lambda _: next(left)), images(PLANE))
    assert torch.equal(y_hat, draws[0])
    expected = np.std([draw.numpy() for draw in draws], axis=0).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(spread, expected, atol=1e-6)


def test_a_residual_has_the_size_of_the_input():
    x, y_hat = images((1, 1, 3, 4)), images((1, 1, 6, 12), 1)
    _, found = CueRecipe.of("residual")(network(lambda _: y_hat), x)
    means = y_hat.numpy()[0, 0].reshape(3, 2, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found[0, 0], abs(means - x.numpy()[0, 0]), atol=1e-6)


@pytest.mark.parametrize("text", ["residual", "outputs"])
def test_a_network_may_change_its_input_in_place(text):
    """Its residual was 0, and images were spoilt for all that reads them afterwards."""

    def changing(x):
        x *= 0.5
        return x, x

    def keeping(x):
        return 0.5 * x, 0.5 * x

    x, recipe = images(PLANE), CueRecipe.of(text)
    (_, changed), (_, kept) = (recipe(network(run), x) for run in (changing, keeping))
    assert torch.equal(changed, kept)
    assert torch.equal(x, images(PLANE))


class Plain(torch.nn.Module):
    def forward(self, x):
        return x


X = images(PLANE)
REFUSED = [
    *(
        (partial(CueRecipe.of, text), "give outputs, flips, residual")
        for text in ("samples", "samples,1", "samples,x", "dropout", "flips,3", "noise")
    ),
    pytest.param(
        lambda: CueRecipe.of("samples,3", "median"), "show 'median': give one, mean, all", marks=UNTYPED
    ),
    (lambda: CueRecipe.of("flips", "mean"), "goes with cues samples,K or dropout,K, not flips"),
    (lambda: add_outputs("", network(lambda x: x), show="mean"), "show goes with cues"),
    (lambda: CueRecipe.of("samples,4")(network(lambda x: x), X), "same output 4 times: it draws nothing"),
    # nor does one that changes its input in place
    (lambda: CueRecipe.of("samples,3")(network(lambda x: x.mul_(0.5)), X), "it draws nothing"),
    (
        lambda: CueRecipe.of("residual")(network(lambda _: images((1, 1, 6, 12))), images((1, 1, 4, 4))),
        "6 x 12 and x of 4 x 4 pixels",
    ),
    (
        lambda: CueRecipe.of("dropout,4")(network(lambda x: x), X),
        "is not a torch module whose layers can be reached",
    ),
    (
        lambda: CueRecipe.of("dropout,4")(CustomPredictor(Plain(), "own", "1f", network=Plain()), X),
        "has no dropout layers",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_is_refused(call, message):
    with pytest.raises((InvalidArgumentError, MismatchError), match=message):
        call()


def pairs(folder, count, seed):
    """Smooth images, and what a camera made of them."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        y = np.cumsum(generator.random((1, 16, 16), np.float32), axis=2) / 16
        x = (y + 0.1 * generator.standard_normal(y.shape)).clip(0, 1)
        write_image(folder / "y" / f"{index:03d}.png", y)
        write_image(folder / "x" / f"{index:03d}.png", x.astype(np.float32))
    return folder


MODULE = """
import numpy as np
calls = []
def drawn(image):
    calls.append(1)
    smooth = (image + np.roll(image, 1, axis=0) + np.roll(image, -1, axis=0)) / 3
    return (smooth + 0.05 * np.random.standard_normal(image.shape) * image).clip(0, 1)
"""


@pytest.mark.thorough
def test_from_a_network_that_draws_to_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sampler_of_cues.py").write_text(MODULE)
    pairs(tmp_path / "data", 60, 0)
    pairs(tmp_path / "new", 4, 1)
    run = ["triplets", "data", "--predictor", "sampler_of_cues:drawn", "--cues", "samples,4"]
    main(run)
    assert "60 maps in data/cues, by 4 calls of the network for each image" in capsys.readouterr().out
    import sampler_of_cues

    assert len(sampler_of_cues.calls) == 240
    first = (tmp_path / "data" / "cues" / "000.npy").read_bytes()
    (tmp_path / "data" / "cues" / "007.npy").unlink()
    main(run)
    assert len(sampler_of_cues.calls) == 244
    assert (tmp_path / "data" / "cues" / "000.npy").read_bytes() == first
    main(["calibrate", "data", "--score-from", "cues", "--threshold", "0.03", "--out", "run", "--json"])
    capsys.readouterr()
    masker = cm.load("run")
    assert masker.card.cues_made == "samples,4"
    main(["triplets", "new", *run[2:]])
    main(["mask", "run", "new", "masks", "--json"])
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 4
    other = pairs(tmp_path / "other", 2, 2)
    main(["triplets", str(other), *run[2:-1], "samples,6"])
    reading = masker.card.reading
    with pytest.raises(MismatchError, match="made by --cues samples,4, but these were made by samples,6"):
        write_masks(masker, cm.Triplets.from_folder(other, reading=reading), tmp_path / "refused")


def test_maps_of_another_recipe_are_not_mixed(tmp_path):
    data, shift = pairs(tmp_path, 3, 0), network(lambda x: x.roll(1, dims=-1))
    add_outputs(data, shift, cues="flips")
    (data / "cues" / "001.npy").unlink()
    with pytest.raises(MismatchError, match="already contains maps made flips, not by residual"):
        add_outputs(data, shift, cues="residual")
    triplets = cm.Triplets.from_folder(data)
    assert not triplets.has_cues
    assert triplets.provenance.cues == "flips"


def test_an_output_is_drawn_together_with_its_map(tmp_path):
    data, drawing = pairs(tmp_path, 2, 0), network(lambda x: x * torch.rand(()))
    add_outputs(data, drawing)
    with pytest.raises(MismatchError, match="would not be among the samples of their maps"):
        add_outputs(data, drawing, cues="samples,3")
    add_outputs(data, drawing, cues="residual")


def test_a_residual_of_a_degradation_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "optics.py").write_text("def halved(image):\n    return image / 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    opened = Mock(wraps=custom_predictor)
    monkeypatch.setattr("conformask.extras.make.predictors.custom_predictor", opened)
    recipe = CueRecipe.of("residual,optics:halved")
    x = images(PLANE)
    for _ in range(2):
        (y_hat,), maps = recipe(network(lambda x: x**2), x)
    opened.assert_called_once_with("optics:halved")
    assert torch.equal(y_hat, x**2)
    assert (maps - (x**2 / 2 - x).abs().mean(dim=1, keepdim=True)).abs().max() < 1e-6
    assert recipe.text == "residual,optics:halved"
    with pytest.raises(MismatchError, match="has to degrade an output as x was degraded"):
        recipe(network(lambda x: x.repeat_interleave(2, dim=2)), x)


def true_images(folder, count):
    for number in range(count):
        write_image(folder / "true" / f"{number}.png", images((3, 24, 24), number).numpy())
    return TrueImages.from_folder(folder / "true", 16, 8, colour=True)


def test_true_images_get_maps_too(tmp_path):
    (tmp_path / "true").mkdir()
    task, turning = Completion(), network(lambda x: x[:, :1].cummax(dim=3).values)
    made = write_triplets(
        true_images(tmp_path, 2), tmp_path / "data", task=task, predictor=turning, cues=CueRecipe.of("flips")
    )
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=Reading(cues="cues"))
    assert len(triplets) == made == 8
    assert triplets.provenance.cues == "flips"
    x = torch.from_numpy(triplets[3].x)[None]
    _, spread = CueRecipe.of("flips")(turning, x)
    assert np.abs(triplets[3].layers["cues"] - spread[0].numpy()).max() < 0.01, (
        "x is rounded to 8 bits in its file"
    )


def test_a_killed_run_keeps_no_map_of_other_draws(tmp_path):
    """Each map is the deviation of the very outputs beside it, also after a kill in between."""
    (tmp_path / "true").mkdir()
    source, calls = true_images(tmp_path, 5), iter(range(1000))

    def run(x, last):
        if next(calls) == last:
            raise KeyboardInterrupt
        return torch.rand(len(x), 1, *x.shape[2:])

    for last in (5, 1000):
        with nullcontext() if last == 1000 else pytest.raises(KeyboardInterrupt):
            write_triplets(
                source, tmp_path / "data", task=Completion(), predictor=network(partial(run, last=last)),
                cues=CueRecipe.of("samples,3", "all"),
            )  # fmt: skip
    triplets = cm.Triplets.from_folder(tmp_path / "data", reading=Reading(cues="cues"))
    assert len(triplets) == 3 * 20
    for first in range(0, 60, 3):
        three = [triplets[first + place] for place in range(3)]
        assert len({triplet.facts["group"] for triplet in three}) == 1
        spread = np.std([triplet.y_hat for triplet in three], axis=0)
        assert np.abs(spread - three[0].layers["cues"]).max() < 0.005


def test_what_is_shown_goes_with_maps(conformask):
    words = "triplets", "data", "new", "--task", "completion", "--predictor", "bicubic", "--show", "all"
    answer = conformask(*words)
    assert "--show goes with --cues samples,K or dropout,K" in answer.err


RETURNS = """
import numpy as np
import torch
def both(image):
    return 0.9 * image, 50 * image.mean(axis=-1)
def alone(image):
    return 0.9 * image
def of_other_size(image):
    return 0.9 * image, image[:4, :4]
"""


@pytest.mark.thorough
def test_what_the_network_returns_after_its_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "returns_of_cues.py").write_text(RETURNS)
    pairs(tmp_path / "data", 3, 0)
    main(["triplets", "data", "--predictor", "returns_of_cues:both", "--cues", "outputs"])
    assert "by 1 call of the network for each image" in capsys.readouterr().out
    for triplet in cm.Triplets.from_folder("data", reading=cm.Reading(cues="cues")):
        np.testing.assert_allclose(triplet.layers["cues"], 50 * triplet.x, rtol=1e-5)
        np.testing.assert_allclose(triplet.y_hat, 0.9 * triplet.x, atol=1e-4)
    pairs(tmp_path / "plain", 2, 0)
    main(["triplets", "plain", "--predictor", "returns_of_cues:both"])
    assert not (tmp_path / "plain" / "cues").exists()
    for name, told in (("alone", "returns y_hat alone"), ("of_other_size", "second output has shape")):
        pairs(tmp_path / name, 2, 0)
        with pytest.raises(SystemExit):
            main(["triplets", name, "--predictor", f"returns_of_cues:{name}", "--cues", "outputs"])
        assert told in capsys.readouterr().err


def test_a_file_of_pytorch_that_returns_two(tmp_path):
    class Both(torch.nn.Module):
        def forward(self, x):
            return x * 0.5, x.mean(dim=1, keepdim=True) * 7

    sides = ({2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    torch.export.save(
        torch.export.export(Both().eval(), (torch.zeros(1, 3, 8, 9),), dynamic_shapes=sides),
        tmp_path / "n.pt2",
    )
    both = custom_predictor(str(tmp_path / "n.pt2"))
    x = images((2, 3, 6, 8))
    assert torch.equal(both(x), 0.5 * x)
    y_hat, maps = both.with_maps(x)
    assert torch.equal(y_hat, 0.5 * x)
    torch.testing.assert_close(maps, 7 * x.mean(dim=1, keepdim=True))


def test_the_mean_of_draws_and_all_of_them():
    draws = [images(PLANE, seed) for seed in range(3)]

    def shown(show):
        left = iter(draws)
        return CueRecipe.of("samples,3", show)(network(lambda _: next(left)), images(PLANE))

    (mean,), spread = shown("mean")
    torch.testing.assert_close(mean, torch.stack(draws).mean(dim=0))
    every, of_all = shown("all")
    assert all(map(torch.equal, every, draws))
    assert torch.equal(spread, of_all)


class Dropping(torch.nn.Module):
    """Its batch norm would change with every call in training."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5)

    def forward(self, x):
        return 0.5 * self.drop(self.norm(x))


def test_dropout_alone_is_turned_on_and_off_again(tmp_path):
    module = Dropping().eval()
    torch.jit.script(module).save(str(tmp_path / "scripted.pt"))
    x = images((1, 1, 12, 12))
    for own in (
        CustomPredictor(module, "own", "1f", network=module),
        custom_predictor(str(tmp_path / "scripted.pt")),
    ):
        plain, recipe = own(x), CueRecipe.of("dropout,60")
        (y_hat,), spread = recipe(own, x)
        assert torch.equal(y_hat, plain), "what is shown is the output without dropout"
        assert recipe.passes == 61
        torch.testing.assert_close(spread / plain, torch.ones_like(x), atol=0.2, rtol=0)
        (mean,), _ = CueRecipe.of("dropout,60", "mean")(own, x)
        assert 0 < (mean - plain).abs().mean() < 0.2
        assert torch.equal(own(x), plain), "dropout is off again, and the batch norm as it was"


@pytest.mark.thorough
def test_a_module_by_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_of_cues.py").write_text(
        "import torch\nnetwork = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Dropout(0.2))\n"
    )
    pairs(tmp_path / "data", 3, 0)
    run = ["triplets", "data", "--predictor", "module_of_cues:network", "--cues", "dropout,4"]
    main(run)
    assert "by 5 calls of the network for each image" in capsys.readouterr().out
    for triplet in cm.Triplets.from_folder("data", reading=cm.Reading(cues="cues")):
        np.testing.assert_allclose(triplet.y_hat, triplet.x, atol=1e-4)
        assert triplet.layers["cues"].max() > 0.1
    with pytest.raises(SystemExit):
        main([*run, "--show", "mean"])
    assert "not of module_of_cues:network (dropout,4 --show mean)" in capsys.readouterr().err


@pytest.mark.thorough
def test_all_samples_are_a_group_under_one_mask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "every_of_cues.py").write_text(MODULE)
    pairs(tmp_path / "data", 20, 0)
    pairs(tmp_path / "new", 3, 1)
    for path in (tmp_path / "new" / "y").iterdir():
        path.unlink()
    run = ["--predictor", "every_of_cues:drawn", "--cues", "samples,3"]
    main(["triplets", "data", *run, "--show", "all"])
    assert "calibrate data --score-from cues --threshold T --unit group" in capsys.readouterr().out
    triplets = cm.Triplets.from_folder("data")
    assert triplets.names[:4] == ("000_1", "000_2", "000_3", "001_1")
    assert triplets.groups[:4] == ("000", "000", "000", "001")
    assert check_triplets(triplets, 9).duplicates == (), "they share a truth, and are no copies"
    (tmp_path / "data" / "y_hat" / "004_2.png").unlink()
    main(["triplets", "data", *run, "--show", "all"])
    assert len(triplets) == 60
    promise = ["--threshold", "0.05", "--unit", "group", "--group-name", "input"]
    main(["calibrate", "data", "--score-from", "cues", *promise, "--out", "run"])
    capsys.readouterr()
    masker = cm.load("run")
    assert (masker.card.n_groups, masker.card.cues_made) == (18, "samples,3 --show all"), "two select"
    main(["triplets", "new", *run, "--show", "all"])
    main(["mask", "run", "new", "masks"])
    new = cm.Triplets.from_folder("new", reading=masker.card.reading)
    masks = [read_mask(tmp_path / "masks" / "masks" / f"{name}.png") for name in new.names]
    assert 0 < np.mean(masks) < 1
    for place in range(0, 9, 3):
        assert not np.array_equal(new[place].y_hat, new[place + 1].y_hat)
        assert np.array_equal(masks[place], masks[place + 1])
        assert np.array_equal(masks[place], masks[place + 2])
    capsys.readouterr()
    for show in ("one", "mean"):
        other = pairs(tmp_path / show, 2, 2)
        main(["triplets", str(other), *run, "--show", show])
        with pytest.raises(SystemExit):
            main(["mask", "run", str(other), f"masks-{show}"])
        assert "about maps made by --cues samples,3 --show all" in capsys.readouterr().err


def test_a_manifest_of_yours_is_kept(tmp_path):
    data = pairs(tmp_path, 2, 0)
    (data / "manifest.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"manifest\.csv is in the way"):
        add_outputs(data, network(lambda x: x * torch.rand(())), cues="samples,2", show="all")
    assert not (data / "y_hat").exists()
