"""Outputs by a network, a function or a file of one's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.demonstration import COLOUR, packaged_photographs
from conformask.extras.make.predictors import Bicubic, Biharmonic, CustomPredictor, custom_predictor
from conformask.extras.make.tasks import TASKS, Completion, SuperResolution, luma, task
from conformask.extras.make.triplets import Source, TrueImages, add_outputs, write_triplets
from conformask.images.read import read_image, write_image
from conformask.images.rows import PARTS, part_of
from conformask.images.triplets import Triplets

MODULE = """
import numpy as np
import torch

calls = []


def dimmed(image):
    calls.append(image.shape)
    return 0.5 * image


def grey(image):
    return image.mean(axis=2)


def loud(image):
    return 3 * image - 1


def broken(image):
    if image.mean() > 0.55:
        raise ValueError("too bright")
    return np.full_like(image, np.nan) if image.mean() > 0.4 else image


def cropped(image):
    return image[:-1]


def in_bytes(image):
    return (255 * image).astype(np.uint8)


def to_255(image):
    return 255 * image


def halved(image):
    return torch.from_numpy(image).bfloat16()


def one_number(image):
    return 0.3


def nothing_returned(image):
    pass


def blinding(image):
    return image + np.inf


nothing = 3
"""
X = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The name of a module in the working folder, new for each test."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def halving(path, batch, kind=TensorProto.FLOAT, channels=3):
    value = helper.make_tensor("half", kind, [1], [0.5])
    shape = [batch, channels, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["in", "half"], ["out"])],
        "halving",
        [helper.make_tensor_value_info("in", kind, shape)],
        [helper.make_tensor_value_info("out", kind, shape)],
        [value],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return str(path)


class Halving(torch.nn.Module):
    def forward(self, x):
        return 0.5 * x


def test_a_function_on_arrays(mine):
    torch.testing.assert_close(custom_predictor(f"{mine}:dimmed")(X), 0.5 * X)
    torch.testing.assert_close(custom_predictor(f"{mine}:grey")(X), X.mean(1, keepdim=True))
    torch.testing.assert_close(custom_predictor(f"{mine}:loud")(X), (3 * X - 1).clamp(0, 1))
    torch.testing.assert_close(custom_predictor(f"{mine}:halved")(X), X.bfloat16().float())


def test_torchscript(tmp_path):
    torch.jit.trace(Halving(), X).save(str(tmp_path / "net.pt"))
    torch.testing.assert_close(custom_predictor(str(tmp_path / "net.pt"))(X), 0.5 * X)


@pytest.mark.parametrize("batch", [3, 1])
def test_a_file_of_torch_export_with_any_batch_and_with_one(tmp_path, batch):
    free = dict.fromkeys((0, 2, 3) if batch > 1 else (2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(Halving(), (X[:batch],), dynamic_shapes=(free,))
    torch.export.save(program, tmp_path / "net.pt2")
    torch.testing.assert_close(custom_predictor(str(tmp_path / "net.pt2"))(X), 0.5 * X)
    torch.testing.assert_close(custom_predictor(str(tmp_path / "net.pt2"))(X[:1, :, :4]), 0.5 * X[:1, :, :4])


@pytest.mark.parametrize("batch", ["batch", 1])
def test_onnx_with_any_batch_and_with_one(tmp_path, batch):
    torch.testing.assert_close(custom_predictor(halving(tmp_path / "net.onnx", batch))(X), 0.5 * X)


def test_onnx_in_half_precision(tmp_path):
    found = custom_predictor(halving(tmp_path / "net.onnx", "batch", TensorProto.FLOAT16))(X)
    torch.testing.assert_close(found, 0.5 * X, rtol=1e-3, atol=1e-3)
    assert found.dtype == torch.float32


def test_what_is_no_network_is_refused(tmp_path, mine):
    for suffix in (".pt", ".pt2", ".onnx"):
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(b"no network")
        with pytest.raises(MismatchError, match=f"damaged{suffix} is damaged, or is not a"):
            custom_predictor(str(damaged))
        with pytest.raises(MissingFileError, match="does not exist"):
            custom_predictor(str(tmp_path / f"none{suffix}"))
    with pytest.raises(InvalidArgumentError, match=r"give package.module:function, or a file .onnx"):
        custom_predictor("sharpen")
    with pytest.raises(MissingFileError, match="No module named 'nowhere'"):
        custom_predictor("nowhere:sharpen")
    with pytest.raises(InvalidArgumentError, match=r"not of its file: enhance:enlarge in tools$"):
        custom_predictor("tools/enhance.py:enlarge")
    for name in ("dimed", "nothing"):
        with pytest.raises(InvalidArgumentError, match=f"has no function '{name}'"):
            custom_predictor(f"{mine}:{name}")


def pairs(folder, levels=(0.2, 0.5, 0.9)):
    for index, level in enumerate(levels):
        image = np.full((3, 8, 8), level, np.float32)
        image[0] = 0
        for role in ("x", "y"):
            write_image(folder / role / f"{index}.png", image)
    return folder


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("in_bytes", r"ndarray of shape \(8, 8, 3\) and type uint8, not floats in \[0, 1\]"),
        ("to_255", r"values from 0 to 51, but must return values in \[0, 1\]"),
        ("one_number", r"float of shape \(\)"),
        ("nothing_returned", "NoneType"),
        ("blinding", "returned NaN or infinity"),
    ],
)
def test_what_is_no_output_is_refused(mine, tmp_path, function, told):
    data = pairs(tmp_path / "data")
    with pytest.raises(ImageError, match=f"^0: the predictor .*{told}"):
        add_outputs(data, custom_predictor(f"{mine}:{function}"))
    assert not (data / "y_hat").exists()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nowhere_installed", "ModuleNotFoundError: No module named 'nowhere_installed'"),
        ("def f(image) return image", "SyntaxError"),
        ("raise RuntimeError('no GPU here')", "RuntimeError: no GPU here"),
    ],
)
def test_a_module_that_cannot_be_imported(mine, tmp_path, code, told):
    (tmp_path / f"{mine}_spoilt.py").write_text(code)
    with pytest.raises(MismatchError, match=f"importing {mine}_spoilt failed with {told}"):
        custom_predictor(f"{mine}_spoilt:f")


def test_files_of_the_working_folder_take_no_package_s_place(tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("def enhance(image):\n    return image\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(InvalidArgumentError, match=r"colorsys \(.*lib.*\) has no function 'enhance'"):
        custom_predictor("colorsys:enhance")


def test_the_error_of_other_code_is_told_in_one_line(tmp_path):
    grey = custom_predictor(halving(tmp_path / "net.onnx", "batch", channels=1))
    with pytest.raises(ImageError, match=r"^0: .* Got: 3 Expected: 1") as stop:
        add_outputs(pairs(tmp_path / "data"), grey)
    assert "\n" not in str(stop.value)


def test_weights_instead_of_torchscript(tmp_path):
    torch.save(Halving().state_dict(), tmp_path / "net.pt")
    with pytest.raises(MismatchError, match=r"with torch\.export\.save\(.*, not with torch\.save"):
        custom_predictor(str(tmp_path / "net.pt"))


def test_outputs_are_added_by_command_line_and_not_made_twice(mine, tmp_path, capsys):
    data = pairs(tmp_path / "data")
    main(["triplets", str(data), "--predictor", f"{mine}:dimmed"])
    capsys.readouterr()
    for name in ("0.png", "1.png", "2.png"):
        (data / "y_hat" / name).unlink()
    write_image(data / "y_hat" / "1.png", np.ones((3, 8, 8), np.float32))
    main(["triplets", str(data), "--predictor", f"{mine}:dimmed", "--json"])
    made = {"data": str(data), "n": 3, "predictor": f"{mine}:dimmed", "cues": None}
    assert json.loads(capsys.readouterr().out) == made
    made = Triplets.from_folder(data)
    np.testing.assert_allclose(made[0].y_hat, 0.5 * made[0].x, atol=1e-4)
    assert (made[1].y_hat == 1).all(), "what was there is kept"
    assert len(__import__(mine).calls) == 3 + 2


def test_other_channels_go_to_npy(tmp_path):
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "a.npy", np.random.default_rng(0).random((8, 8, 5)))
    assert add_outputs(tmp_path, CustomPredictor(lambda x: 0.5 * x, "half", "1f")) == 1
    np.testing.assert_allclose(
        read_image(tmp_path / "y_hat" / "a.npy"), 0.5 * read_image(tmp_path / "x" / "a.npy")
    )


def test_outputs_are_in_the_units_of_the_data_range(tmp_path):
    counts = np.random.default_rng(0).integers(0, 4096, (8, 9)).astype(np.uint16)
    for role in ("x", "y"):
        (tmp_path / role).mkdir()
        np.save(tmp_path / role / "a.npy", counts)
    add_outputs(tmp_path, CustomPredictor(lambda x: 0.5 * x, "half", "1f"), (0, 4095))
    triplet = Triplets.from_folder(tmp_path, (0, 4095))[0]
    np.testing.assert_allclose(triplet.x[0], counts / 4095, rtol=1e-6)
    np.testing.assert_allclose(triplet.y_hat, 0.5 * triplet.x, rtol=1e-6)


def test_what_fails_is_named_and_the_rest_is_kept(mine, tmp_path):
    predictor = custom_predictor(f"{mine}:broken")
    with pytest.raises(ImageError, match=r"^2: the predictor failed: ValueError: too bright"):
        add_outputs(pairs(tmp_path / "loud"), predictor)
    nan = pairs(tmp_path / "nan", (0.2, 0.65))
    with pytest.raises(ImageError, match=r"^1: the predictor returned NaN"):
        add_outputs(nan, predictor)
    assert [path.name for path in (nan / "y_hat").iterdir()] == ["0.png"]
    with pytest.raises(
        ImageError, match=r"^0: the predictor returned shape \(3, 7, 8\), but y has \(3, 8, 8\)"
    ):
        add_outputs(pairs(tmp_path / "cropped"), custom_predictor(f"{mine}:cropped"))
    with pytest.raises(MissingFileError, match="no images in x/"):
        add_outputs(tmp_path / "empty", predictor)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in", "out", "--predictor", "a:b"], "go with --task"),
        (["in", "--predictor", "bicubic", "--task", "super_resolution"], "give DATA and --size"),
    ],
)
def test_half_a_command_is_refused(words, message, conformask):
    answer = conformask("triplets", *words)
    assert (answer.status, message in answer.err) == (2, True)


def onnx_with_weights_beside(folder, value):
    """y = w x, where w lies in a file whose name has nothing of the network's."""
    (folder / "weights.bin").write_bytes(np.float32(value).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    weight.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "weights.bin"), ("offset", "0"), ("length", "4")):
        weight.external_data.add(key=key, value=text)
    shape = ["n", "c", "h", "w"]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "scale", [x], [y], [weight])
    path = folder / "scale.onnx"
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )
    return path


def test_weights_in_a_file_of_another_name_are_part_of_the_fingerprint(tmp_path):
    one = custom_predictor(str(onnx_with_weights_beside(tmp_path, 0.5)))
    assert torch.equal(one(X), 0.5 * X)
    other = custom_predictor(str(onnx_with_weights_beside(tmp_path, 0.75)))
    assert torch.equal(other(X), 0.75 * X)
    assert one.fingerprint != other.fingerprint
    (tmp_path / "scale.onnx.txt").write_text("notes that are no weights")
    assert custom_predictor(str(tmp_path / "scale.onnx")).fingerprint == other.fingerprint


SHARED = Path(__file__).parents[4] / "shared" / "data"


def field(height=40, width=50, channels=1, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, top, shape, endpoint=True).astype(dtype)


def names(images):
    return [source.name for source in images.sources]


def test_tiles_are_cut_without_resizing():
    array = field()
    images = TrueImages.from_arrays({"f": array}, 16, 16)
    assert names(images) == [f"f_r{row:02d}_c{column:02d}" for row in range(2) for column in range(3)]
    source, tile = images[4]
    assert source == Source("f_r01_c01", "f", "f", part_of("f"), (16, 16))
    assert tile.dtype == np.float32
    np.testing.assert_array_equal(tile[0], (array[16:32, 16:32] / 255).astype(np.float32))


def test_overlapping_tiles():
    images = TrueImages.from_arrays({"f": field()}, 16, 8)
    assert len(images) == 4 * 5
    np.testing.assert_array_equal(images[0][1][:, :, 8:], images[1][1][:, :, :8])
    assert {source.group for source in images.sources} == {"f"}
    TrueImages.from_arrays({"f": field()}, 16, 8, split="within")


def test_the_tile_is_its_own_group_where_tiles_are_dealt():
    arrays = {f"f{index}": field(64, 64) for index in range(30)}
    for split in ("within", "tile"):
        images = TrueImages.from_arrays(arrays, 8, 8, split=split)
        assert all(source.group == source.name for source in images.sources)
    images = TrueImages.from_arrays(arrays, 8, 8)
    assert {source.part == part_of(source.file) for source in images.sources} == {True}


def test_parts_do_not_depend_on_the_other_files_and_cover_all():
    arrays = {f"f{index}": field(32, 32) for index in range(60)}
    few = dict(list(arrays.items())[:20])
    for split in ("file", "within", "tile"):
        many = {source.name: source for source in TrueImages.from_arrays(arrays, 16, 16, split=split).sources}
        for source in TrueImages.from_arrays(few, 16, 16, split=split).sources:
            assert many[source.name] == source
    images = TrueImages.from_arrays(arrays, 16, 16)
    parts = [images.part(name) for name in PARTS]
    assert sorted(name for part in parts for name in names(part)) == sorted(names(images))
    assert images.select([3, 1]).sources == (images.sources[3], images.sources[1])


def test_without_a_stride_the_short_side_is_resized_and_the_centre_cut():
    ramp = np.tile(np.linspace(0, 255, 120).astype(np.uint8), (60, 1))
    source, image = TrueImages.from_arrays({"ramp": ramp}, 30)[0]
    assert source.name == source.file == source.group == "ramp"
    assert source.box is None
    assert image.shape == (1, 30, 30)
    assert image[0, 0, 0] == pytest.approx(0.25, abs=0.02)
    assert image[0, 0, -1] == pytest.approx(0.75, abs=0.02)


def test_the_size_of_the_file_is_only_cut():
    array = field(32, 40)
    np.testing.assert_array_equal(
        TrueImages.from_arrays({"a": array}, 32)[0][1][0], (array[:, 4:36] / 255).astype(np.float32)
    )


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_images_are_rounded_to_the_bits_of_their_file(tmp_path, dtype, bits):
    images = TrueImages.from_arrays({"a": field(64, 64, 3, dtype)}, 24)
    assert images.bits == bits
    levels = images[0][1].astype(np.float64) * (2**bits - 1)
    assert np.abs(levels - np.rint(levels)).max() < 0.01
    if bits == 16:
        assert np.abs(levels / 257 - np.rint(levels / 257)).max() > 0.1


def test_a_given_range_keeps_16_bits():
    images = TrueImages.from_arrays({"a": np.full((8, 8), 100, np.uint8)}, 8, data_range=(0, 200))
    assert images.bits == 16
    assert images[0][1].max() == pytest.approx(0.5, abs=1e-4)


def test_a_folder_is_read_with_the_folders_in_it(tmp_path):
    write_image(tmp_path / "b.png", np.zeros((1, 20, 20)))
    write_image(tmp_path / "deep" / "er" / "a.tif", np.ones((1, 20, 20)), bits=16)
    images = TrueImages.from_folder(tmp_path, 16)
    assert names(images) == ["b", "deep__er__a"]
    assert images.bits == 16
    assert [image.mean() for _, image in images] == [0, 1]
    write_image(tmp_path / "b.tif", np.zeros((1, 20, 20)))
    with pytest.raises(ImageError, match="would both be called 'b'"):
        TrueImages.from_folder(tmp_path, 16)
    with pytest.raises(MissingFileError):
        TrueImages.from_folder(tmp_path / "none", 16)


def test_a_file_is_decoded_once_for_its_tiles(tmp_path, monkeypatch):
    for name in "ab":
        write_image(tmp_path / f"{name}.png", np.zeros((1, 20, 20)))
    images = TrueImages.from_folder(tmp_path, 5, 5)
    read = []
    monkeypatch.setattr(
        "conformask.extras.make.triplets.image_and_header",
        lambda path, *_: (read.append(path.stem) or np.zeros((1, 20, 20), np.float32), None),
    )
    assert len(list(images)) == 32
    assert read == ["a", "b"]


def test_images_that_are_too_small(tmp_path):
    write_image(tmp_path / "tiny.png", np.zeros((1, 20, 12)))
    for stride in (None, 4):
        with pytest.raises(ImageError, match=r"tiny\.png is 20 x 12 pixels, smaller than 16 x 16"):
            TrueImages.from_folder(tmp_path, 16, stride)


def test_mixed_channels():
    arrays = {"grey": field(20, 20), "colour": field(20, 20, 3)}
    with pytest.raises(ImageError, match="mixed channels: 'colour' has 3, but 'grey' has 1"):
        TrueImages.from_arrays(arrays, 16)
    images = TrueImages.from_arrays(arrays, 16, colour=True)
    assert images.channels == 3
    grey = images[0][1]
    assert grey.shape == (3, 16, 16)
    assert (grey[0] == grey[2]).all()
    assert TrueImages.from_arrays({"grey": field(20, 20)}, 16, colour=True).channels == 1
    with pytest.raises(ImageError, match="mixed channels"):
        TrueImages.from_arrays({**arrays, "two": field(20, 20, 2)}, 16, colour=True)


def of(images, *cut, part=None, **more):
    made = TrueImages.from_arrays(images, *cut, **more)
    return [made.part(name) for name in part or ()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of({"a": field()}, 0), "size 0"),
        (lambda: of({"a": field()}, 4, 0), "stride 0"),
        (lambda: of({"a": field()}, 4, split="slide"), "'slide' is unknown"),
        (lambda: of({"f": field()}, 16, 8, split="tile"), "stride 8 below size 16 makes tiles overlap"),
        (lambda: of({"f": field()}, 16, part=PARTS), "part is empty: 1 groups"),
        (lambda: of({"f": field()}, 16, part=["all"]), "'all' is unknown"),
        (lambda: of({}, 4), "empty"),
        (lambda: of({"a/b": field()}, 4), "a/b"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InvalidArgumentError, match=message):
        call()


def test_packaged_photographs_are_real_and_in_colour():
    photographs = packaged_photographs()
    assert len(photographs) == 12
    assert all(photo.dtype == np.uint8 and photo.shape[2] == 3 for photo in photographs.values())
    assert all(min(photo.shape[:2]) >= 300 and photo.std() > 10 for photo in photographs.values())
    for name in COLOUR:
        photo = photographs[Path(name).stem].astype(int)
        assert np.abs(photo[..., 0] - photo[..., 2]).mean() > 3
    tiles = TrueImages.from_arrays(photographs, 64, 64, split="tile")
    assert len(tiles) > 600
    assert min(len(tiles.part(name)) for name in PARTS) > 40


@pytest.mark.parametrize(
    ("folder", "count", "channels", "stride"), [("photos", 1366, 3, None), ("cells", 38 * 7 * 8, 1, 128)]
)
def test_real_folders(folder, count, channels, stride):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{SHARED / folder} is not here")
    images = TrueImages.from_folder(SHARED / folder, 128, stride, colour=channels == 3)
    assert len(images) == count
    assert images.channels == channels
    assert images.bits == 8
    assert images[5][1].shape == (channels, 128, 128)


def test_making_images_smaller_leaves_no_aliases():
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    image = TrueImages.from_arrays({"a": checkerboard}, 20)[0][1]
    np.testing.assert_allclose(image[:, 3:-3, 3:-3], 0.5, atol=0.03)


# Triplets of a task by a killed run, several processes and an interrupted one: what one alone writes
COMMAND = Path(sys.executable).with_name("conformask")
NETWORK = """
import os
import signal
from pathlib import Path

import numpy as np


def enlarge(x):
    if Path("deadly").exists() and len(list(Path("killed/y").glob("[!.]*"))) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.kron(x, np.ones((4, 4, 1), np.float32))
"""
TILES = 40
"""Three batches."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    image = np.random.default_rng(0).random((3, 128, 80), dtype=np.float32)
    write_image(tmp_path / "images" / "0.png", image)
    (tmp_path / "network_of_processes.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(out):
    cut = ["--size", "16", "--stride", "16", "--split", "tile"]
    return [
        *("triplets", "images", out, "--task", "super_resolution"),
        *("--predictor", "network_of_processes:enlarge", *cut),
    ]


def status(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([COMMAND, *words], env=environment, check=False).returncode


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()}


@pytest.mark.slow
def test_two_processes_resume_a_killed_run(folder):
    main(words("alone"))
    (folder / "deadly").touch()
    assert status(*words("killed")) == -signal.SIGKILL
    (folder / "deadly").unlink()
    assert not (folder / "killed" / "manifest.csv").exists()
    times = {path: path.stat().st_mtime_ns for path in (folder / "killed" / "y").glob("[!.]*")}
    assert status(*words("killed"), "--devices", "2") == 0
    assert len(files(folder / "alone")) == 3 * TILES + 2
    assert files(folder / "killed") == files(folder / "alone")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what is there is not written again"


class Enlarging:
    """Stopped by hand at one of its batches."""

    name, fingerprint, trained_on = "enlarging", None, ()

    def __init__(self, stopped_at=None):
        self.batches, self.stopped_at = 0, stopped_at

    def __call__(self, x):
        self.batches += 1
        if self.batches == self.stopped_at:
            raise KeyboardInterrupt
        return torch.nn.functional.interpolate(x, scale_factor=4)


def test_only_what_would_be_the_same_is_kept(folder):
    def write(out, size, network):
        images = TrueImages.from_folder("images", size, 16, "tile")
        return write_triplets(images, out, task=SuperResolution(), predictor=network)

    with pytest.raises(KeyboardInterrupt):
        write("stopped", 16, Enlarging(stopped_at=3))
    shutil.copytree("stopped", "smaller")
    same, smaller = Enlarging(), Enlarging()
    assert write("stopped", 16, same) == TILES
    assert 1 <= same.batches <= 2, "what is there is not predicted again"
    assert write("smaller", 8, smaller) == TILES
    assert smaller.batches == 3
    assert {read_image(path).shape for path in Path("smaller/y").iterdir()} == {(3, 8, 8)}


def images(channels=3, height=32, width=32, seed=0):
    return torch.rand((2, channels, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_promises_of_its_protocol(name):
    made = task(name)
    assert made.name == name
    y = made.truth(images())
    x = made.degrade(y)
    before = x.clone()
    enlarged = made.enlarge(x)
    assert enlarged.shape[-2:] == y.shape[-2:]
    assert 0 <= enlarged.min() <= enlarged.max() <= 1
    y_hat = made.compose(x, 3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    assert y_hat.shape == y.shape
    assert 0 <= y_hat.min() <= y_hat.max() <= 1
    assert torch.equal(x, before)
    assert torch.equal(made.degrade(y[1:]), x[1:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: task("superresolution"), "did you mean 'super_resolution'"),
        (lambda: task("denoise"), "choose from"),
        (lambda: luma(images(2)), "2 channels"),
        (lambda: SuperResolution().truth(images(1, 30, 33)), r"30 x 33 pixels.*--size 28"),
        (lambda: SuperResolution().degrade(images(1, 30, 33)), r"30 x 33 pixels.*--size 28"),
        (lambda: task("colorization").truth(images(1)), "1 channels; colorization needs colour"),
        (lambda: task("colorization").degrade(images(1)), "1 channels; colorization needs colour"),
        (lambda: Biharmonic(task("colorization")), "biharmonic fills holes.*use it with --task completion"),
        (lambda: Bicubic(task("completion")), "bicubic enlarges.*use it with --task super_resolution"),
    ],
)
def test_tasks_that_are_refused(call, message):
    with pytest.raises((ImageError, InvalidArgumentError), match=message):
        call()


def test_luma_is_itu_601():
    primaries = torch.eye(3)[:, :, None, None]
    assert luma(primaries).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert luma(torch.ones(1, 3, 2, 2)).max() <= 1


def test_the_hole_of_the_paper():
    hole = Completion().hole(256, 256)
    assert hole[0].sum() == 32 == hole[:, 0].sum()
    assert hole[0, 112:144].all()
    assert hole[112:144, 0].all()
    assert hole.sum() == 2 * 32 * 256 - 32 * 32
    assert Completion().hole(64, 128)[0].sum() == 16
    assert Completion().hole(64, 128)[:, 0].sum() == 8


def test_completion_keeps_what_is_known():
    completion = Completion()
    y = completion.truth(images())
    assert y.shape == (2, 1, 32, 32)
    x = completion.degrade(y)
    hole = completion.hole(32, 32)
    assert (x[..., hole] == 0).all()
    assert torch.equal(x[..., ~hole], y[..., ~hole])
    output = images(1, seed=2)
    y_hat = completion.compose(x, output)
    assert torch.equal(y_hat[..., hole], output[..., hole])
    assert torch.equal(y_hat[..., ~hole], y[..., ~hole])


def test_super_resolution_averages_four_by_four():
    x = SuperResolution().degrade(images())
    y = images()
    assert x[1, 2, 3, 5].item() == pytest.approx(y[1, 2, 12:16, 20:24].mean().item(), abs=1e-6)
    assert torch.allclose(x, F.interpolate(y, scale_factor=0.25, mode="area"))
    assert SuperResolution().scale == 4


def test_colorization_takes_the_luma_away():
    assert torch.equal(task("colorization").degrade(images()), luma(images()))


def waves(height=32, width=32, channels=1):
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    plane = 0.5 + 0.2 * torch.sin(3 * rows) + 0.2 * torch.cos(4 * columns)
    return torch.stack([plane, 1 - plane])[:, None].repeat(1, channels, 1, 1)


def test_biharmonic_fills_smooth_images_well_and_only_the_hole():
    completion = task("completion")
    y = waves()
    x = completion.degrade(y)
    y_hat = Biharmonic(completion)(x)
    hole = completion.hole(32, 32)
    assert y_hat.dtype == torch.float32
    assert torch.equal(y_hat[..., ~hole], y[..., ~hole])
    assert (y_hat - y).abs().max() < 0.02
    assert torch.allclose(Biharmonic(completion)(x[1:]), y_hat[1:])


def test_bicubic_enlarges_smooth_images_well():
    super_resolution = task("super_resolution")
    y = waves(channels=3)
    y_hat = Bicubic(super_resolution)(super_resolution.degrade(y))
    assert y_hat.shape == y.shape
    assert (y_hat - y).abs()[..., 4:-4, 4:-4].max() < 0.02
    assert Bicubic(super_resolution)(torch.eye(8)[None, None]).min() >= 0


def test_names():
    assert Biharmonic(task("completion")).name == "biharmonic"
    assert Bicubic(task("super_resolution")).name == "bicubic"


@pytest.mark.parametrize(
    ("sides", "metadata", "factor", "written"),
    [
        ((8, 9), {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}, 1, "a.ome.tif"),
        ((4, 8, 9), {"axes": "ZYX", **{f"PhysicalSize{axis}": 2 for axis in "XYZ"}}, 1, "a.ome.tif"),
        ((8, 9), {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}, 2, "a.png"),
        ((8, 9), {"axes": "YX"}, 1, "a.png"),
    ],
)
def test_outputs_keep_the_physical_size_that_x_states(sides, metadata, factor, written, tmp_path):
    (tmp_path / "x").mkdir()
    pixels = np.random.default_rng(0).integers(0, 2**16, sides, np.uint16)
    tifffile.imwrite(tmp_path / "x" / "a.ome.tif", pixels, metadata=metadata)
    made = CustomPredictor(torch.nn.Upsample(scale_factor=factor), "enlarge", "1")
    assert add_outputs(tmp_path, made) == 1
    assert [path.name for path in (tmp_path / "y_hat").iterdir()] == [written]
    images = Triplets.from_folder(tmp_path)
    assert images.geometry(0) == (images.header(0, "x").geometry if written == "a.ome.tif" else None)
    near = tuple(slice(None, None, factor) for _ in sides)
    np.testing.assert_allclose(images[0].y_hat[(slice(None), *near)], images[0].x, atol=1e-5)
