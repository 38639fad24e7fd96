"""What napari opens through the manifest: runs, and masks that conformask wrote."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from runs_of_fields import pair

import conformask as cm
from conformask.data.images import read_image

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
    assert film.metadata["promise"] == planes.masker.promise
    sizes = [1 - mask.mean(dtype=np.float64) for mask in expected]
    assert list(film.metadata["mask_sizes"].values()) == pytest.approx(sizes, abs=1e-4)


def test_masks_of_volumes_and_of_one_file(qt, volumes, tmp_path):
    from conformask.napari.readers import reader_of

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


def test_other_folders_and_files_are_left_to_others(qt, tmp_path):
    from conformask.napari.readers import reader_of

    (tmp_path / "image.png").touch()
    others = [str(tmp_path), str(tmp_path / "image.png"), [str(tmp_path)]]
    assert [reader_of(path) for path in others] == [None] * 3
