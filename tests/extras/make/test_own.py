import json
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.make.predictors import CustomPredictor, custom_predictor
from conformask.extras.make.triplets import add_outputs
from conformask.images.read import read_image, write_image
from conformask.images.triplets import Triplets

MODULE = """
import numpy as np

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
    with pytest.raises(MismatchError, match=r"with torch\.jit\.script\(network\)\.save"):
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
