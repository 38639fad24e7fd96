"""The blank test finds what networks that are made for it add, and nothing where they add nothing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError, OutputError
from conformask.extras.make.probe import Probe
from conformask.images.read import write_image

FLAT = "flat field 0.5"
NOISE = "white noise of 0.1"
OWN, SHIFTS = "own output of a smooth texture", "shifts of a smooth texture"


def numbers(predictor, *given):
    return cm.probe(predictor, *given).to_json()["tests"]


def blurred(x):
    return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="nearest"))


def enlarged(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def with_a_square(x):
    y = x.clone()
    y[..., 50:60, 70:77] += 0.05
    return y


def blotchy(x):
    """Coarse structure that follows the input, but not linearly."""
    rough = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, 4, 4), mode="wrap")) - 0.5
    return 0.5 + 0.2 * torch.sign(rough) * (rough.abs() > 0.004)


def on_a_grid(x):
    """Means of 4 x 4 pixels: it matters where the grid lies."""
    return nn.functional.avg_pool2d(x, 4).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


@pytest.mark.parametrize("network", [lambda x: x, enlarged])
def test_nothing_is_found_where_nothing_is_added(network):
    found = numbers(network)
    for name in (f"flat field {level}" for level in (0.25, 0.5, 0.75)):
        assert found[name] == {"deviation": 0.0, "offset": 0.0, "patch": 0.0}
    assert found[NOISE]["unexplained"] == pytest.approx(0, abs=1e-9)
    assert found[NOISE]["coarse"] == pytest.approx(found[NOISE]["coarse_of_input"], abs=1e-6)
    assert max(found[OWN].values()) == pytest.approx(0, abs=1e-6)
    assert max(found[SHIFTS].values()) == pytest.approx(0, abs=1e-6)


def test_a_filter_adds_nothing_to_noise_but_changes_its_own_output():
    found = numbers(blurred)
    assert found[NOISE]["unexplained"] < 0.02
    assert found[NOISE]["coarse"] > 0.5  # as a filter does, it takes the fine half away
    assert found[NOISE]["deviation"] < 0.3 * found[NOISE]["deviation_of_input"]
    assert found[OWN]["change"] > 0.005
    assert max(found[SHIFTS].values()) < 1e-5


def grey(x):
    return (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def swapped(x):
    return x.flip(1)


@pytest.mark.parametrize("network", [grey, lambda x: x[:, :1], swapped])
def test_a_filter_that_mixes_channels_adds_nothing_either(network):
    """Of the mean of the channels alone no filter makes one of them: two thirds were called added."""
    assert numbers(network)[NOISE]["unexplained"] == pytest.approx(0, abs=1e-9)


def test_a_square_of_its_own_is_measured():
    found = numbers(with_a_square)
    for level in ("0.25", "0.5", "0.75"):
        assert found[f"flat field {level}"]["patch"] == 70
        assert found[f"flat field {level}"]["offset"] == pytest.approx(0.05 * 70 / 96**2, rel=1e-4)
    assert found[SHIFTS]["shift_4"] > found[SHIFTS]["shift_1"] > 0


def test_what_is_invented_from_noise_is_no_filtered_noise():
    found = numbers(blotchy)
    assert found[FLAT]["deviation"] == 0
    assert found[NOISE]["unexplained"] > 0.2
    assert found[NOISE]["coarse"] > 0.5 > 0.1 > found[NOISE]["coarse_of_input"]


def test_a_grid_shows_when_the_input_is_shifted():
    found = numbers(on_a_grid)[SHIFTS]
    assert found["shift_2"] > found["shift_1"] > 0.005
    assert found["shift_4"] == pytest.approx(0, abs=1e-7)


def test_of_what_is_not_there_nothing_is_said():
    found = numbers(lambda x: 0.5 + 0 * x + 1e-7 * torch.rand_like(x))[NOISE]
    assert found.keys() == {"deviation", "deviation_of_input"}


def test_a_module_with_one_channel_and_weights():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"), nn.Sigmoid())
    found = cm.probe(module)
    assert found.network == "Sequential"
    assert not module.training
    assert found.rows[0].pictures["input"].ndim == 2


def folder_of(folder, *sizes, channels=3):
    for place, size in enumerate(sizes):
        image = np.random.default_rng(place).random((channels, *size), dtype=np.float32)
        (folder / "x").mkdir(parents=True, exist_ok=True)
        write_image(folder / "x" / f"{place}.png", image)
    return folder


def test_images_of_a_folder_are_used(tmp_path):
    folder = folder_of(tmp_path / "data", (70, 90), (80, 100), (90, 75), (200, 200))
    found = numbers(on_a_grid, folder)
    assert [name for name in found if name.startswith("shifts")] == [f"shifts of {n}" for n in "012"]
    assert numbers(on_a_grid, folder / "x") == found


def test_images_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="at least 36 pixels, but these have 35 x 60"):
        cm.probe(blurred, folder_of(tmp_path, (35, 60)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: x[..., :-1], "made 32 x 31 of 32 x 32 pixels"),
        (lambda x: x * torch.nan if x.shape[-1] > 32 else x, "flat field 0.25: the predictor returned NaN"),
        (lambda x: 255 * x, "3 channels .*divide by their range.* nor with 1"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(network, message):
    with pytest.raises((ImageError, InvalidArgumentError), match=message):
        cm.probe(network)


def test_the_page_and_the_sheet_are_signed_and_replace_only_their_own(tmp_path):
    found = cm.probe(with_a_square)
    assert isinstance(found, Probe)
    page = found.save(tmp_path / "probe.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 3 * 3 + 3 + 4 + 3
    assert "nothing is promised for any image" in page
    assert "largest visible patch, pixels: 70" in page
    found.save(tmp_path / "probe.html")
    found.save(tmp_path / "probe.png")
    assert Image.open(tmp_path / "probe.png").width > 600
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError):
        found.save(tmp_path / "mine.html")


@pytest.mark.thorough
def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    from conformask.cli import main

    monkeypatch.chdir(tmp_path)
    code = "def twice(x):\n    return x.repeat(2, 0).repeat(2, 1)\n"
    (tmp_path / "own_network_of_the_blank_test.py").write_text(code)
    command = ["probe", "--predictor", "own_network_of_the_blank_test:twice"]
    main(command)
    text = capsys.readouterr().out
    assert "Blank test of own_network_of_the_blank_test:twice" in text
    assert "Written: probe.html" in text
    main([*command, "--json", "--images", str(folder_of(tmp_path / "data", (64, 64), channels=1))])
    record = json.loads(capsys.readouterr().out)
    assert record["tests"][FLAT] == {"deviation": 0.0, "offset": 0.0, "patch": 0.0}
    assert record["fingerprint"]
    (tmp_path / "probe.html").write_text("mine")
    with pytest.raises(SystemExit):
        main(command)
    assert (tmp_path / "probe.html").read_text() == "mine"
