"""What napari opens through the manifest: runs, and masks that conformask wrote."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
from runs_of_fields import pair

import conformask as cm
from conformask.images.read import read_image

pytestmark = pytest.mark.xdist_group("napari")

SHAPE = (48, 40)
UM = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}


@pytest.fixture(scope="session")
def written(planes, tmp_path_factory) -> Path:
    """Masks of a field with pixel sizes, of a film of three time points, and of a PNG."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("masks")
    for place, role in enumerate(("x", "y_hat")):
        (data / role).mkdir()
        film = np.stack([pair(seed, SHAPE)[place] for seed in (50, 51, 52)])
        tifffile.imwrite(data / role / "film.ome.tif", film, metadata={"axes": "TYX", **UM})
        tifffile.imwrite(data / role / "field.ome.tif", film[0], metadata={"axes": "YX", **UM})
        tifffile.imwrite(data / role / "plain.tif", film[1])
    cm.write_masks(planes.masker, cm.Triplets.from_folder(data), out)
    return out


@pytest.fixture(scope="session")
def alike(planes, tmp_path_factory) -> Path:
    """Images of one size with names that count to 10, one of another size, and two films of one length."""
    folder = tmp_path_factory.mktemp("alike")
    images = {f"cell{seed}": pair(seed, SHAPE) for seed in (1, 2, 10)} | {"wide": pair(3, (48, 56))}
    for place, role in enumerate(("x", "y_hat")):
        (folder / role).mkdir()
        for name, image in images.items():
            tifffile.imwrite(folder / role / f"{name}.ome.tif", image[place], metadata={"axes": "YX", **UM})
        for film, seeds in {"fast": (60, 61), "slow": (70, 71)}.items():
            frames = np.stack([pair(seed, SHAPE)[place] for seed in seeds])
            tifffile.imwrite(folder / role / f"{film}.ome.tif", frames, metadata={"axes": "TYX", **UM})
    with pytest.warns(UserWarning, match="the promise covers only images of"):
        cm.write_masks(planes.masker, cm.Triplets.from_folder(folder), folder / "out")
    return folder


def on_disk(folder: Path, name: str):
    return read_image(folder / "out" / "masks" / name)[0]


@pytest.fixture
def viewer(qt, monkeypatch):
    """A viewer without a canvas that the reader takes for the current one."""
    from napari.components import ViewerModel
    from napari.utils.notifications import notification_manager

    import conformask.extras.napari.readers

    notification_manager.records.clear()
    made = ViewerModel()
    monkeypatch.setattr(conformask.extras.napari.readers, "current_viewer", lambda: made)
    return made


def said() -> list[str]:
    from napari.utils.notifications import notification_manager

    return [record.message for record in notification_manager.records]


def opened(path: Path):
    """The layers that napari makes of a path."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.open(path, plugin="conformask")
    return {layer.name: layer for layer in viewer.layers}


def test_the_manifest_is_valid(qt):
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("conformask")
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Masks"]


@pytest.mark.parametrize("file", ["", "masks.json"])
def test_a_folder_of_masks(qt, written, planes, file):
    layers = opened(written / file)
    assert list(layers) == ["mask of field", "mask of film", "mask of plain"]
    field, film, plain = layers.values()
    np.testing.assert_array_equal(np.asarray(field.data), read_image(written / "masks" / "field.ome.tif")[0])
    expected = [read_image(written / "masks" / f"film.ome.tif#t={time}")[0] for time in range(3)]
    np.testing.assert_array_equal(np.asarray(film.data), np.stack(expected))
    assert (field.axis_labels, film.axis_labels, plain.axis_labels) == (
        ("y", "x"),
        ("t", "y", "x"),
        ("y", "x"),
    )
    np.testing.assert_array_equal(film.scale, (1, 0.5, 0.25))
    np.testing.assert_array_equal(plain.scale, (1, 1))
    assert [f"{unit:~}" for unit in film.units] == ["pixel", "µm", "µm"]
    assert [layer.visible for layer in layers.values()] == [True, False, False]
    assert film.metadata["sentence"] == planes.masker.sentence
    sizes = [1 - mask.mean(dtype=np.float64) for mask in expected]
    assert list(film.metadata["mask_sizes"].values()) == pytest.approx(sizes, abs=1e-4)


@pytest.mark.parametrize("inside", ["", "masks"])
def test_masks_of_one_size_and_scale_are_one_layer(qt, alike, inside):
    cells, films, wide = opened(alike / "out" / inside).values()
    assert cells.metadata["names"] == ["cell1", "cell2", "cell10"], "in the order of napari, 2 before 10"
    assert isinstance(cells.data, da.Array)
    expected = [on_disk(alike, f"cell{number}.ome.tif") for number in (1, 2, 10)]
    np.testing.assert_array_equal(np.asarray(cells.data), np.stack(expected))
    assert (cells.name, cells.axis_labels) == ("masks of 3 images", ("image", "y", "x"))
    np.testing.assert_array_equal(cells.scale, (1, 0.5, 0.25))
    sizes = [1 - mask.mean(dtype=np.float64) for mask in expected]
    assert list(cells.metadata["mask_sizes"].values()) == pytest.approx(sizes, abs=1e-4)
    assert (wide.name, wide.data.shape) == ("mask of wide", (48, 56))
    assert (films.data.shape, films.axis_labels) == ((2, 2, *SHAPE), ("image", "t", "y", "x"))
    assert films.metadata["names"] == ["fast", "slow"]
    np.testing.assert_array_equal(np.asarray(films.data[1, 0]), on_disk(alike, "slow.ome.tif#t=0"))


def test_of_a_stack_only_what_is_shown_is_read(qt, alike, monkeypatch):
    import conformask.extras.napari.readers as readers

    files, open_raster = [], readers.open_raster
    monkeypatch.setattr(readers, "open_raster", lambda file: files.append(file.name) or open_raster(file))
    cells = opened(alike / "out")["masks of 3 images"]
    files.clear()
    for place in (2, 2, 0):
        np.asarray(cells.data[place])
    assert files == ["cell10.ome.tif", "cell1.ome.tif"]


def test_a_selection_of_masks(qt, alike):
    from conformask.extras.napari.readers import reader_of

    paths = [str(alike / "out" / "masks" / f"{name}.ome.tif") for name in ("cell10", "cell1")]
    ((data, how, _),) = reader_of(paths)(paths, stack=True)
    assert (how["metadata"]["names"], data.shape) == (["cell1", "cell10"], (2, *SHAPE))
    assert reader_of([*paths, str(alike / "y_hat" / "cell1.ome.tif")]) is None


def lies(layer) -> tuple:
    """Where a layer lies along its last two axes."""
    return (*layer.scale[-2:], *layer.translate[-2:], *map(str, layer.units[-2:]))


BY_FILE = (0.5, 0.25, 0, 0, "micrometer", "micrometer")


@pytest.mark.parametrize("stack", [True, False])
def test_masks_lie_over_images_whose_reader_does_not_give_their_scale(viewer, alike, stack):
    files = [alike / "y_hat" / f"cell{number}.ome.tif" for number in (1, 2, 10)]
    image, *_ = viewer.open(files, plugin="napari", stack=stack)
    cells, films, wide = viewer.open(alike / "out", plugin="conformask")
    assert lies(cells) == lies(films) == lies(image) == (1, 1, 0, 0, "pixel", "pixel")
    assert lies(wide) == BY_FILE, "no image of its size is open"
    assert len(said()) == 2
    assert all("not the 0.5 x 0.25 µm of their files" in text for text in said())


def test_a_mask_lies_over_the_image_of_its_name_before_others(viewer, alike):
    from conformask.extras.napari.readers import reader_of

    files = [alike / "y_hat" / f"cell{number}.ome.tif" for number in (1, 2)]
    first, second = viewer.open(files, plugin="napari")
    first.translate = (7, 8)
    for name, image in (("cell1", first), ("cell2", second), ("cell10", second)):
        path = str(alike / "out" / "masks" / f"{name}.ome.tif")
        ((_, how, _),) = reader_of(path)(path, stack=False)
        np.testing.assert_array_equal(how["translate"], image.translate)


def test_masks_beside_masks_have_the_scale_of_their_files(viewer, alike):
    masks = [
        *viewer.open(alike / "out", plugin="conformask"),
        *viewer.open(alike / "out", plugin="conformask"),
    ]
    assert [lies(each) for each in masks] == [BY_FILE] * 6
    assert said() == []


def test_masks_of_volumes_and_of_one_file(qt, volumes, tmp_path):
    from conformask.extras.napari.readers import reader_of

    x, y_hat, _ = pair(50, (6, 32, 24))
    one = cm.Triplets.from_arrays([x], [y_hat], names=["stack"], reading=cm.Reading(axes="ZYX"))
    cm.write_masks(volumes.masker, one, tmp_path)
    (file,) = (tmp_path / "masks").iterdir()
    ((data, how, kind),) = reader_of(str(file))(str(file))
    np.testing.assert_array_equal(np.asarray(data), read_image(file)[0])
    assert (how["axis_labels"], how["name"], kind) == (("z", "y", "x"), "mask of stack", "image")


def test_a_run_is_chosen_in_the_widget(qt, planes):
    import napari

    viewer = napari.Viewer(show=False)
    try:
        assert viewer.open(planes.folder, plugin="conformask") == []
        _, widget = viewer.window.add_plugin_dock_widget("conformask", "Masks")
        assert widget.run.value == planes.folder
    finally:
        viewer.close()


def test_a_run_that_is_not_calibrated_goes_to_the_widget_too(qt, tmp_path):
    from conformask.extras.napari.readers import NOTHING, reader_of

    (tmp_path / "scorer.json").touch()
    assert reader_of(str(tmp_path))(str(tmp_path)) == NOTHING


def test_other_folders_and_files_are_left_to_others(qt, tmp_path):
    from conformask.extras.napari.readers import reader_of

    (tmp_path / "image.png").touch()
    others = [str(tmp_path), str(tmp_path / "image.png"), [str(tmp_path)]]
    assert [reader_of(path) for path in others] == [None] * 3
