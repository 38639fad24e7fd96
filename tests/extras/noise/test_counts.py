"""Counts split into parts: their law, files of every kind, and what is refused."""

import json
import math
from functools import partial

import numpy as np
import pytest
import tifffile

from conformask.errors import ImageError, InvalidArgumentError, MismatchError, OutputError
from conformask.extras.noise.repeats import RECORD, Thinning, relative_noise, split_counts, split_folder
from conformask.images.formats import SourceImage
from conformask.images.read import decode_with_header, read_image, write_image
from conformask.images.tiff import write_tiff_over
from conformask.records.reading import PLAIN, Reading
from stacks import GEOMETRY, shared

MEANS = np.random.default_rng(1).uniform(0.2, 40, (1, 64))
"""Expected counts of 64 pixels."""
COUNTS = np.random.default_rng(2).poisson(MEANS, (20_000, 64))
PHOTONS = Thinning()
SHARES = [(0.5, 0.5), (0.8, 0.2), (0.5, 0.25, 0.25)]


def counts_of(*space, seed=0, mean=30):
    """Poisson counts of a scene that is darker on the left, (*space)."""
    slope = np.linspace(0.2, 1, space[-1])
    return np.random.default_rng(seed).poisson(mean * np.broadcast_to(slope, space))


# ---------------------------------------------------------------------------- the law of parts


def correlation(first, second, expected):
    """The correlation of two parts beyond their means (1, pixels), in its standard errors."""
    errors = (first - expected) * (second - expected) / expected
    return float(errors.sum() / np.sqrt((errors**2).sum()))


@pytest.mark.parametrize("shares", SHARES)
def test_parts_of_poisson_counts_are_poisson(shares):
    parts = split_counts(COUNTS, shares, seed=3)
    assert (parts.sum(0) == COUNTS).all()
    for share, part in zip(shares, parts, strict=True):
        mean = share * MEANS
        assert abs((part - mean).sum()) < 4 * math.sqrt(len(part) * mean.sum())
        # for Poisson counts (k - mean)^2 - k has mean 0 and variance 2 mean^2
        excess = ((part - mean) ** 2 - part).sum()
        assert abs(excess) < 4 * math.sqrt(len(part) * 2 * (mean**2).sum())


@pytest.mark.parametrize("shares", SHARES)
def test_parts_of_poisson_counts_are_independent(shares):
    parts = split_counts(COUNTS, shares, seed=3)
    for other, share in zip(parts[1:], shares[1:], strict=True):
        scaled = parts[0] / shares[0], other / share
        assert abs(correlation(*scaled, MEANS)) < 4
        # nor does the spread of one follow the other
        squares = ((part - MEANS) ** 2 for part in scaled)
        variances = (MEANS / part for part in (shares[0], share))
        products = np.prod([square - v for square, v in zip(squares, variances, strict=True)], 0) / MEANS**2
        assert abs(products.sum()) < 4 * math.sqrt((products**2).sum())


def test_the_correlation_is_seen_where_parts_depend_on_each_other():
    # two draws from the same counts, and counts with a gain that is wrong by a tenth
    first, second = (split_counts(COUNTS, seed=seed)[0] for seed in (0, 1))
    assert correlation(2 * first, 2 * second, MEANS) > 100
    first, second = split_counts(np.rint(1.1 * COUNTS))
    assert correlation(2 * first / 1.1, 2 * second / 1.1, MEANS) > 20


def test_parts_follow_from_the_seed():
    assert (split_counts(COUNTS, seed=5) == split_counts(COUNTS, seed=5)).all()
    assert (split_counts(COUNTS, seed=5) != split_counts(COUNTS, seed=6)).any()


def test_parts_of_floats_booleans_and_of_one_number():
    assert split_counts(np.array([3.0, 0.0])).sum(0).tolist() == [3, 0]
    assert split_counts(np.array([True, False])).sum(0).tolist() == [1, 0]
    assert split_counts(np.array(7), (0.2, 0.3, 0.5)).shape == (3,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (partial(split_counts, np.array([value])), "counts contains")
            for value in (0.5, -1, np.nan, np.inf)
        ),
        *(
            (partial(split_counts, np.array([3]), shares), "with sum 1")
            for shares in ((), (1.0,), (0.5, 0.6), (1.0, 0.0), (1.5, -0.5), (0.5, math.nan))
        ),
        (lambda: Thinning(gain=0), "gain is 0"),
        (lambda: Thinning(gain=math.inf), "gain is inf"),
        (lambda: Thinning(offset=math.nan), "offset nan"),
        (lambda: Thinning(seed=-1), "seed is -1"),
    ],
)
def test_what_are_no_counts_shares_or_terms_is_refused(call, message):
    with pytest.raises((ImageError, InvalidArgumentError), match=message):
        call()


# ---------------------------------------------------------------------------- how noisy images are


@pytest.mark.parametrize("mean", [0.05, 1, 100])
def test_the_noise_of_counts_is_one(mean):
    assert relative_noise(counts_of(400, 400, mean=mean)) == pytest.approx(1, abs=0.15)


def test_the_noise_follows_the_gain_but_not_edges_and_slopes():
    scene = np.add.outer(np.linspace(0, 900, 320), np.linspace(0, 900, 320))
    scene[100:200, 40:170] += 2000
    counts = np.random.default_rng(0).poisson(scene)
    for gain in (0.25, 1, 4):
        assert relative_noise(np.rint(gain * counts)) == pytest.approx(gain, rel=0.1)


def test_images_too_dark_or_small_have_no_noise_to_measure():
    assert all(
        math.isnan(relative_noise(np.zeros(shape, int))) for shape in ((20, 20), (1, 9), (9, 1), (1, 1))
    )
    assert relative_noise(counts_of(4, 3, 5)) > 0


# ---------------------------------------------------------------------------- folders


def split_one(folder, thinning=PHOTONS, reading=PLAIN):
    """Split the images of folder/images; the parts of each by name, (*space[, C]), and the headers."""
    result = split_folder(folder / "images", folder / "out", thinning, reading)
    paths = sorted(path for path in (folder / "out").rglob("*") if path.suffix not in (".json", ".lock", ""))
    return result, {path.relative_to(folder / "out").as_posix(): decode_with_header(path) for path in paths}


def check_parts(folder, counts, thinning, suffix, **how):
    """The parts of image a add up to its counts; the geometry that they all have."""
    result, parts = split_one(folder, thinning, **how)
    names = [f"repeats/a_{part}{suffix}" for part in range(1, len(thinning.shares))] + [f"x/a{suffix}"]
    assert list(parts) == names
    total, geometries, largest = np.zeros(counts.shape), set(), 0
    for share, name in zip(thinning.shares, [names[-1], *names[:-1]], strict=True):
        values, header = parts[name]
        assert values.dtype == np.float32
        total += (values.astype(float) - thinning.offset) / thinning.gain * share
        geometries.add(header.geometry)
        largest = max(largest, values.max())
    np.testing.assert_allclose(total, counts, atol=0.01)
    assert result.data_range == (thinning.offset, largest)
    assert result.noise == pytest.approx(1, abs=0.25)
    assert len(geometries) == 1
    return geometries.pop()


SCALES = [Thinning(), Thinning(2, 10, (0.7, 0.3)), Thinning(2, 10, (0.5, 0.25, 0.25), seed=4)]


@pytest.mark.parametrize("thinning", SCALES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pngs_become_tiffs(tmp_path, thinning, dtype):
    counts, largest = counts_of(64, 48), np.iinfo(dtype).max
    values = thinning.offset + thinning.gain * counts
    write_image(tmp_path / "images/a.png", (values / largest)[None].astype(np.float32), largest.bit_length())
    check_parts(tmp_path, counts, thinning, ".ome.tif")


@pytest.mark.parametrize(("axes", "shape"), [("YX", (40, 64)), ("ZYX", (5, 40, 64)), ("YXS", (40, 64, 3))])
def test_tiffs_of_planes_volumes_and_colours(tmp_path, axes, shape):
    (tmp_path / "images").mkdir()
    counts = counts_of(*shape) if axes[-1] == "X" else np.moveaxis(counts_of(3, 40, 64), 0, -1)
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (0.7, 0.2, 0.3), strict=True)}
    values = (100 + 3 * counts).astype(np.uint16)
    tifffile.imwrite(tmp_path / "images/a.ome.tif", values, metadata={"axes": axes, **sizes})
    geometry = check_parts(tmp_path, counts, Thinning(3, 100), ".ome.tif")
    assert geometry.spacing == ((0.7,) if "Z" in axes else ()) + (0.2, 0.3)


def test_volumes_of_channels_come_back(tmp_path):
    image = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    write_tiff_over(tmp_path / "a.tif", image, SourceImage(None, GEOMETRY, PLAIN))
    values, header = decode_with_header(tmp_path / "a.tif")
    assert (header.shape, header.geometry) == ((2, 3, 4, 5), GEOMETRY)
    np.testing.assert_array_equal(values, np.moveaxis(image, 0, -1))


@pytest.mark.parametrize(("axes", "suffix"), [(None, ".npy"), ("YX", ".ome.tif")])
def test_arrays_stay_arrays_unless_their_axes_have_to_be_named(tmp_path, axes, suffix):
    (tmp_path / "images").mkdir()
    counts = counts_of(40, 64)
    np.save(tmp_path / "images/a.npy", counts)
    check_parts(tmp_path, counts, Thinning(), suffix, reading=Reading(axes=axes))


def test_each_time_point_is_split(tmp_path):
    (tmp_path / "images").mkdir()
    film = counts_of(3, 40, 64)
    tifffile.imwrite(tmp_path / "images/a.tif", film.astype(np.uint16), metadata={"axes": "TYX"}, ome=True)
    result, parts = split_one(tmp_path)
    assert result.n == 3
    for time, counts in enumerate(film):
        both = [parts[name][0] for name in (f"x/a_t00{time}.tif", f"repeats/a_t00{time}_1.tif")]
        np.testing.assert_array_equal(sum(both) / 2, counts)


def test_a_volume_as_nifti_stays_one(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "images").mkdir()
    counts = counts_of(5, 40, 64)
    image = nibabel.Nifti1Image(counts.transpose().astype(np.int16), np.diag([2, 3, 4, 1]))
    nibabel.save(image, tmp_path / "images/a.nii.gz")
    geometry = check_parts(tmp_path, counts, Thinning(), ".nii.gz")
    assert geometry.spacing == (4, 3, 2)


def test_each_image_has_its_own_draws(tmp_path):
    counts = counts_of(40, 64)
    other = counts.copy()
    other[-1, -1] += 1
    for folder, values in (("first", counts), ("second", other)):
        (tmp_path / folder / "images").mkdir(parents=True)
        for name in "ab":
            np.save(tmp_path / folder / f"images/{name}.npy", values)
    _, parts = split_one(tmp_path / "first")
    assert (parts["x/a.npy"][0] != parts["x/b.npy"][0]).any()
    # images of other folders often have the same names
    _, others = split_one(tmp_path / "second")
    assert (parts["x/a.npy"][0] != others["x/a.npy"][0])[:-1].any()


# ---------------------------------------------------------------------------- what is refused


def refused(folder, values, thinning=PHOTONS):
    """The error about values in a file, which is named; nothing of it is written."""
    (folder / "images").mkdir()
    np.save(folder / "images/a.npy", values)
    with pytest.raises(ImageError, match=r"a\.npy") as told:
        split_folder(folder / "images", folder / "out", thinning)
    assert not list((folder / "out").rglob("*.npy"))
    return str(told.value)


def test_values_between_counts_are_refused_unless_rounded(tmp_path):
    values = np.rint(2.7 * counts_of(64, 64)).astype(np.uint16)
    told = refused(tmp_path, values, Thinning(3.1))
    assert "not whole counts at gain 3.1 and offset 0. Estimate the gain" in told
    result = split_folder(tmp_path / "images", tmp_path / "other", Thinning(3.1, rounded=True))
    assert 0.3 < result.odd < 0.7
    # of the right gain, whole numbers are counts though the file has rounded them
    assert split_folder(tmp_path / "images", tmp_path / "right", Thinning(2.7)).odd == 0


def test_a_few_odd_or_negative_values_are_said(tmp_path):
    (tmp_path / "images").mkdir()
    values = counts_of(64, 64).astype(float)
    values[0, :8], values[1, :12] = 20.5, -2
    np.save(tmp_path / "images/a.npy", values)
    result, parts = split_one(tmp_path)
    assert (result.odd, result.negative) == (8 / 64**2, 12 / 64**2)
    assert (parts["x/a.npy"][0][1, :12] == 0).all()


def test_an_offset_above_the_values_is_refused(tmp_path):
    assert "lie below the offset 20" in refused(tmp_path, counts_of(64, 64), Thinning(offset=20))
    dark = counts_of(64, 64, mean=1) + np.random.default_rng(0).normal(0, 2, (64, 64))
    np.save(tmp_path / "images/a.npy", dark)
    assert 0.1 < split_folder(tmp_path / "images", tmp_path / "o", Thinning(rounded=True)).negative < 0.5
    with pytest.raises(ImageError, match="lie below the offset 5"):
        split_folder(tmp_path / "images", tmp_path / "p", Thinning(offset=5, rounded=True))


@pytest.mark.parametrize("rounded", [False, True])
def test_images_from_0_to_1_are_refused(tmp_path, rounded):
    values = counts_of(64, 64) / 255
    assert "from 0 to 1, not counts" in refused(tmp_path, values, Thinning(rounded=rounded))
    # unless the gain says what a count is
    assert split_folder(tmp_path / "images", tmp_path / "right", Thinning(1 / 255)).odd == 0


def test_images_of_nothing_but_zeros_and_ones_may_be_counts(tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/a.npy", np.minimum(counts_of(64, 64, mean=0.05), 1).astype(float))
    assert split_one(tmp_path)[0].n == 1


def test_nan_is_refused(tmp_path):
    assert "NaN" in refused(tmp_path, np.full((8, 8), np.nan))


@pytest.mark.parametrize("name", ["photos/0260.jpg", "stacks/mitotic_plate.tif"])
def test_real_images_that_hold_no_counts_are_refused(tmp_path, name):
    path = shared(name)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / path.name).symlink_to(path)
    with pytest.raises(ImageError, match="the noise of Poisson counts"):
        split_folder(tmp_path / "images", tmp_path / "out", Thinning())


def test_an_averaged_image_is_refused(tmp_path):
    frames = np.stack([counts_of(64, 64, seed=seed) for seed in range(4)])
    assert "it was averaged, denoised or compressed" in refused(tmp_path, np.rint(frames.mean(0)))


@pytest.mark.parametrize("name", ["confocal_fish", "confocal_mice", "twophoton_bpae_g", "twophoton_mice"])
def test_real_counts_with_a_gain_are_asked_about(tmp_path, name):
    path = shared(f"fmd/{name}_noisy1.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / path.name).symlink_to(path)
    with pytest.warns(UserWarning, match="unless the images are full of texture, the gain is about"):
        split_folder(tmp_path / "images", tmp_path / "out", Thinning())


def test_two_images_of_one_name_are_refused(tmp_path):
    write_image(tmp_path / "images/a.png", np.zeros((1, 8, 8), np.float32))
    np.save(tmp_path / "images/a.npy", counts_of(8, 8))
    with pytest.raises(ImageError, match="same stem"):
        split_folder(tmp_path / "images", tmp_path / "out", Thinning())


def test_parts_of_another_run_are_not_mixed(tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/a.npy", counts_of(40, 64))
    before = split_one(tmp_path, Thinning(seed=1))[1]["x/a.npy"][0]
    assert json.loads((tmp_path / "out" / RECORD).read_text())["finished"] is True
    (tmp_path / "out/x/a.npy").unlink()
    written = (tmp_path / "out/repeats/a_1.npy").stat().st_mtime_ns
    assert (split_one(tmp_path, Thinning(seed=1))[1]["x/a.npy"][0] == before).all()
    assert (tmp_path / "out/repeats/a_1.npy").stat().st_mtime_ns == written
    with pytest.raises(MismatchError, match="made in another way"):
        split_one(tmp_path, Thinning(seed=2))
    np.save(tmp_path / "images/a.npy", counts_of(40, 64, seed=1))
    with pytest.raises(MismatchError, match="of other images"):
        split_one(tmp_path, Thinning(seed=1))


def test_a_run_that_did_not_end_may_be_repeated_with_another_gain(tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/a.npy", 3 * counts_of(40, 64))
    np.save(tmp_path / "images/b.npy", 3 * counts_of(40, 64) + 1)
    with pytest.raises(ImageError, match=r"b\.npy"):
        split_one(tmp_path, Thinning(3))
    assert (tmp_path / "out/x/a.npy").exists()
    (tmp_path / "images/b.npy").unlink()
    check_parts(tmp_path, counts_of(40, 64), Thinning(3, seed=1), ".npy")


@pytest.mark.parametrize("place", ["x/mine.tif", "repeats/a_1.npy", "x/a.npy"])
def test_files_of_the_users_stay(tmp_path, place):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images/a.npy", counts_of(40, 64))
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    (tmp_path / "out" / place).write_bytes(b"mine")
    with pytest.raises(OutputError, match="is in the way"):
        split_one(tmp_path)
    assert (tmp_path / "out" / place).read_bytes() == b"mine"


def test_the_images_themselves_are_not_written_to(tmp_path):
    write_image(tmp_path / "out/x/a.png", (counts_of(40, 64) / 255)[None].astype(np.float32))
    with pytest.raises(OutputError, match="is in the way"):
        split_folder(tmp_path / "out/x", tmp_path / "out", Thinning())


# conformask split-counts, and what follows it


@pytest.fixture
def photons(tmp_path):
    """A folder of three images of Poisson counts, times 3, on an offset of 100."""
    (tmp_path / "photons").mkdir()
    scene = np.broadcast_to(np.linspace(5, 30, 48), (40, 48))
    for index in range(3):
        counts = np.random.default_rng(index).poisson(scene)
        tifffile.imwrite(tmp_path / f"photons/{index}.tif", (100 + 3 * counts).astype(np.uint16))
    return tmp_path / "photons"


def test_what_it_says_and_what_comes_next(conformask, photons, tmp_path, monkeypatch):
    out = tmp_path / "parts"
    answer = conformask("split-counts", photons, out, "--gain", 3, "--offset", 100, "--parts", 3)
    assert answer.status == 0, answer.err
    first, noise, following = answer.out.splitlines()
    assert first == f"3 images in {out / 'x'}, 2 repeats of each in {out / 'repeats'}"
    assert 0.8 < float(noise.removeprefix("Noise between neighbouring pixels: ").split()[0]) < 1.2
    assert sorted(path.name for path in (out / "repeats").iterdir()) == [
        f"{index}_{part}.tif" for index in range(3) for part in (1, 2)
    ]
    # the range that is printed holds every value of x
    (tmp_path / "network_for_counts.py").write_text("def halved(x):\n    return x / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = following.removeprefix("Next: conformask ").replace("NETWORK", "network_for_counts:halved")
    answer = conformask(*words.split())
    assert answer.status == 0, answer.err
    assert len(list((out / "y_hat").glob("*.npy"))) == 3


def test_json_and_shares(conformask, photons, tmp_path):
    scale = ("--gain", 3, "--offset", 100, "--share", 0.8, "--seed", 5, "--json")
    record = conformask("split-counts", photons, tmp_path / "parts", *scale).record
    assert record["shares"] == pytest.approx([0.8, 0.2])
    assert (record["n"], record["odd"], record["negative"], record["seed"]) == (3, 0, 0, 5)
    low, high = record["data_range"]
    x, repeat = (
        100 + (high - low) * read_image(tmp_path / "parts" / name, Reading((low, high)))
        for name in ("x/0.tif", "repeats/0_1.tif")
    )
    whole = tifffile.imread(photons / "0.tif")
    np.testing.assert_allclose(0.8 * x[0] + 0.2 * repeat[0], whole, atol=0.01)


def test_rounding_is_said(conformask, photons, tmp_path):
    refused = conformask("split-counts", photons, tmp_path / "parts", "--gain", 3.7, "--offset", 100)
    assert refused.status == 1
    assert "not whole counts at gain 3.7 and offset 100" in refused.err
    scale = ("--gain", 3.7, "--offset", 100, "--round")
    answer = conformask("split-counts", photons, tmp_path / "parts", *scale)
    assert "values of an image were rounded, and 0.0\N{NO-BREAK SPACE}% were negative" in answer.out


@pytest.mark.parametrize("share", [0, 1, -0.5, "nan"])
def test_a_share_that_is_none_is_bad_usage(conformask, photons, tmp_path, share):
    answer = conformask("split-counts", photons, tmp_path / "parts", f"--share={share}")
    assert (answer.status, answer.out) == (2, "")
    assert "between 0 and 1" in answer.err
