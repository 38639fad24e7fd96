"""Volumes and very large images in a real browser, beside what the library says."""

import io
import re
from base64 import b64decode
from threading import Event
from urllib.parse import parse_qs

import nibabel
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from view_worlds import HU, POSTERIOR, RIGHT, SPACE, SUPERIOR

from conformask.extras.view import viewed_image as planes
from conformask.extras.view.session import Session
from conformask.images.pictures import as_bytes
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from conformask.scores.scorer import Tiled
from conformask.scores.scoring import scored_batches
from screens import violations

pytestmark = [pytest.mark.xdist_group("viewer"), pytest.mark.quick(0)]

VIEWS = ("Axial", "Coronal", "Sagittal")
AXES = {"Axial": 1, "Coronal": 2, "Sagittal": 0}
TURNED = {
    "Axial": lambda v, at: v[::-1, at[1], :].T,
    "Coronal": lambda v, at: v[::-1, ::-1, at[2]].T,
    "Sagittal": lambda v, at: v[at[0], ::-1, :],
}
STEPS = {"Axial": (POSTERIOR, RIGHT), "Coronal": (SUPERIOR, RIGHT), "Sagittal": (SUPERIOR, POSTERIOR)}
"""Of a row and of a column."""
DRAWN = "#front-canvas[data-view={}]"
LEVEL = 1
"""How far a byte may be off, by rounding."""


def open_volume(page, address, name="v50", more="?view=mask"):
    page.goto(f"{address}#/image/{name}{more}")
    page.wait_for_selector("#plane:not([hidden]) #front-canvas[data-view]")


def pane(page, name):
    return page.locator(".pane").filter(has=page.locator(".orientation-name", has_text=name))


def canvas(where, selector="canvas.front:not(.detail)"):
    """What a canvas shows, (H, W, 3)."""
    url = where.locator(selector).evaluate("canvas => canvas.toDataURL('image/png')")
    shown = Image.open(io.BytesIO(b64decode(url.partition(",")[2])))
    return np.asarray(shown.convert("RGB")).astype(np.int64)


def close(shown, expected):
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert shown.shape[:2] == expected.shape[:2]
    assert np.abs(shown - expected.astype(np.int64)).max() <= LEVEL


def mask_of(volumes, index=0):
    item = next(scored_batches(volumes.masker.scorer, volumes.shown.select([index]), 1))
    return volumes.masker.open(item)[0, 0].numpy()


def most_hidden(mask):
    return int(mask.mean(axis=(1, 2)).argmin())


def start(volumes):
    """Where the crosshair is at first."""
    return most_hidden(mask_of(volumes)), SPACE[1] // 2, SPACE[2] // 2


def wait_for(page, name, at):
    front = pane(page, name).locator("canvas.front:not(.detail)")
    expect(front).to_have_attribute("data-slice", str(at))


def place(page):
    """The crosshair in the address, once it is written there."""
    page.wait_for_url(re.compile("at="))
    return place_in(page.url)


def place_in(url):
    """Empty where none is written."""
    written = parse_qs(url.partition("?")[2]).get("at", [])
    return [int(at) for text in written for at in text.split(",")]


@pytest.mark.quick
def test_three_views_show_the_library_s_mask_in_true_proportions(volume_page, volume_address, volumes):
    page, mask, at = volume_page, mask_of(volumes), start(volumes)
    open_volume(page, volume_address)
    for name in VIEWS:
        expected = TURNED[name](mask, at)
        wait_for(page, name, at[AXES[name]])
        close(canvas(pane(page, name)), as_bytes(expected[None]))
        box = pane(page, name).locator(".plane").bounding_box()
        (rows, columns), (down, right) = expected.shape, STEPS[name]
        assert box["width"] / box["height"] == pytest.approx(columns * right / (rows * down), rel=0.01)
    letters = {name: pane(page, name).locator(".direction").all_text_contents() for name in VIEWS}
    assert letters == {"Axial": [*"RLAP"], "Coronal": [*"RLSI"], "Sagittal": [*"APSI"]}


@pytest.mark.parametrize("view", ["overlay", "truth", "input", "output"])
def test_every_picture_is_that_of_the_crosshair_s_planes(volume_page, volume_address, volumes, view):
    at, triplet = (3, 5, 11), volumes.shown[0]
    open_volume(volume_page, volume_address, more=f"?view={view}&at=3,5,11")
    for name in VIEWS:
        wait_for(volume_page, name, at[AXES[name]])
        images = {"truth": triplet.y, "input": triplet.x, "output": triplet.y_hat, "overlay": triplet.y_hat}
        close(canvas(pane(volume_page, name)), as_bytes(TURNED[name](images[view][0], at)[None]))


def test_a_swipe_is_in_every_view(volume_page, volume_address, volumes):
    at, triplet = start(volumes), volumes.shown[0]
    open_volume(volume_page, volume_address, more="?swipe=truth,mask")
    for name in VIEWS:
        wait_for(volume_page, name, at[AXES[name]])
        close(canvas(pane(volume_page, name)), as_bytes(TURNED[name](triplet.y[0], at)[None]))
        back = canvas(pane(volume_page, name), "canvas.back:not(.detail)")
        close(back, as_bytes(TURNED[name](mask_of(volumes), at)[None]))
        expect(pane(volume_page, name).locator(".swipe-handle")).to_be_visible()


def middle_of(where, row, column, shape):
    """Where a pixel of a plane is on the screen."""
    box = where.locator(".plane").bounding_box()
    return (
        box["x"] + (column + 0.5) * box["width"] / shape[1],
        box["y"] + (row + 0.5) * box["height"] / shape[0],
    )


@pytest.mark.parametrize("name", VIEWS)
def test_a_click_moves_the_crosshair_and_the_other_views(volume_page, volume_address, volumes, name):
    page, old = volume_page, start(volumes)
    open_volume(page, volume_address)
    wait_for(page, name, old[AXES[name]])
    shown = {other: TURNED[name](np.indices(SPACE)[other], old) for other in range(3)}
    row, column = 2, 3
    expected = [int(shown[axis][row, column]) for axis in range(3)]
    page.mouse.click(*middle_of(pane(page, name), row, column, shown[0].shape))
    assert place(page) == expected
    for other in VIEWS:
        wait_for(page, other, expected[AXES[other]])
        close(canvas(pane(page, other)), as_bytes(TURNED[other](mask_of(volumes), expected)[None]))
        marks = TURNED[other](np.arange(np.prod(SPACE)).reshape(SPACE), expected)
        mark = np.arange(np.prod(SPACE)).reshape(SPACE)[tuple(expected)]
        ((row_of, column_of),) = np.argwhere(marks == mark)
        x, y = middle_of(pane(page, other), row_of, column_of, marks.shape)
        down, across = (
            pane(page, other).locator(f".crosshair.{line}").bounding_box()
            for line in ("vertical", "horizontal")
        )
        assert down["x"] == pytest.approx(x, abs=1.01)
        assert across["y"] == pytest.approx(y, abs=1.01)


def test_wheel_arrows_and_slider_turn_the_slices(volume_page, volume_address, volumes):
    page, (_, y, x) = volume_page, start(volumes)
    open_volume(page, volume_address)
    viewport = page.locator("#viewport").bounding_box()
    fitted = page.locator("#plane").bounding_box()
    page.mouse.move(viewport["x"] + 30, viewport["y"] + 30)
    page.mouse.wheel(0, -120)
    wait_for(page, "Axial", y + 1)
    page.mouse.wheel(0, 120)
    wait_for(page, "Axial", y)
    page.mouse.wheel(0, 20)
    page.mouse.wheel(0, 40)
    wait_for(page, "Axial", y - 1)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    wait_for(page, "Axial", y + 1)
    page.keyboard.press("ArrowDown")
    wait_for(page, "Axial", y)
    page.keyboard.press("PageUp")
    wait_for(page, "Axial", SPACE[1] - 1)
    page.keyboard.press("PageDown")
    wait_for(page, "Axial", SPACE[1] - 11)
    slider = pane(page, "Sagittal").locator(".slice-control input")
    slider.focus()
    page.keyboard.press("Home")
    wait_for(page, "Sagittal", 0)
    page.keyboard.press("ArrowUp")
    wait_for(page, "Sagittal", 1)
    expect(slider).to_have_attribute("aria-valuetext", f"2 of {SPACE[0]}")
    assert slider.evaluate("slider => slider.ariaLabel") == "Sagittal slice"
    page.wait_for_url(lambda url: place_in(url) == [1, SPACE[1] - 11, x])
    assert page.locator("#plane").bounding_box() == fitted
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_function(
        "width => document.querySelector('#plane').getBoundingClientRect().width > 1.5 * width",
        arg=fitted["width"],
    )
    wait_for(page, "Axial", SPACE[1] - 11)


def test_another_view_is_enlarged_and_the_next_image_starts_at_its_own_slice(
    volume_page, volume_address, volumes
):
    page = volume_page
    open_volume(page, volume_address, more="?view=mask&at=1,2,3")
    expect(page.locator(".pane").first.locator(".orientation-name")).to_have_text("Axial")
    page.keyboard.press("v")
    expect(page.locator(".pane").first.locator(".orientation-name")).to_have_text("Coronal")
    page.get_by_role("button", name="Sagittal").click()
    expect(page.locator(".pane").first.locator(".orientation-name")).to_have_text("Sagittal")
    page.wait_for_selector("#front-canvas[data-axis='0'][data-slice='1']")
    close(canvas(page, "#front-canvas"), as_bytes(TURNED["Sagittal"](mask_of(volumes), (1, 2, 3))[None]))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#image-name")).to_have_text("v51")
    at = most_hidden(mask_of(volumes, 1))
    page.wait_for_selector(f"#front-canvas[data-axis='0'][data-slice='{at}'][aria-label*=v51]")
    close(canvas(page, "#front-canvas"), as_bytes(TURNED["Sagittal"](mask_of(volumes, 1), (at, 7, 9))[None]))
    assert parse_qs(page.url.partition("?")[2])["plane"] == ["Sagittal"]


@pytest.mark.parametrize("at", ["99,0,0", "1,2", "-1,0,0", "1.5,0,0", "a,b,c"])
def test_a_link_to_no_place_opens_where_the_image_starts(volume_page, volume_address, volumes, at):
    open_volume(volume_page, volume_address, more=f"?view=mask&at={at}")
    wait_for(volume_page, "Sagittal", start(volumes)[0])


def test_values_under_the_pointer_are_in_stated_units(volume_page, volume_address, volumes):
    page, at = volume_page, (7, 5, 11)
    open_volume(page, volume_address, more="?view=output&at=7,5,11")
    wait_for(page, "Axial", 5)
    stored = {
        role: nibabel.load(volumes.folder / role / "v50.nii.gz").get_fdata().T for role in ("x", "y_hat", "y")
    }
    indices = np.indices(SPACE)
    for name, row, column in (("Axial", 4, 1), ("Coronal", 3, 8), ("Sagittal", 1, 17)):
        z, y, x = (int(TURNED[name](indices[axis], at)[row, column]) for axis in range(3))
        page.mouse.move(*middle_of(pane(page, name), row, column, TURNED[name](indices[0], at).shape))
        error = abs(stored["y"][z, y, x] - stored["y_hat"][z, y, x])
        mask = mask_of(volumes)[z, y, x]
        expect(page.locator("#readout span")).to_have_text(
            [
                f"x {x}",
                f"y {y}",
                f"z {z}",
                f"Output {stored['y_hat'][z, y, x]:g}",
                f"Mask {mask:.2f}",
                f"Truth {stored['y'][z, y, x]:g}",
                f"Input {stored['x'][z, y, x]:g}",
                f"Error {error:g}",
            ]
        )
    page.mouse.move(5, 5)
    expect(page.locator("#readout span").nth(2)).to_have_text("z 7")


def test_the_mask_s_value_follows_the_slider_and_the_wheel_the_place(volume_page, volume_address, volumes):
    page, mask = volume_page, mask_of(volumes)
    open_volume(page, volume_address, more="?view=output&at=7,5,11")
    wait_for(page, "Axial", 5)
    shown = TURNED["Axial"](mask, (7, 5, 11))
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    z, x = SPACE[0] - 1 - column, row
    page.mouse.move(*middle_of(page.locator(".pane").first, row, column, shown.shape))
    values = page.locator("#readout span")
    mask_value = page.locator("#readout span", has_text="Mask")
    expect(values.nth(2)).to_have_text(f"z {z}")
    expect(mask_value).to_have_text(f"Mask {mask[z, 5, x]:.2f}")
    page.mouse.wheel(0, -120)
    expect(values.nth(1)).to_have_text("y 6")
    expect(values.nth(2)).to_have_text(f"z {z}")
    expect(mask_value).to_have_text(f"Mask {mask[z, 6, x]:.2f}")
    moved = volumes.masker.recalibrate(threshold=0.002)
    item = next(scored_batches(volumes.masker.scorer, volumes.shown.select([0]), 1))
    smaller = float(moved.open(item)[0, 0, z, 5, x])
    assert smaller < mask[z, 5, x] - 0.05
    page.keyboard.press("ArrowDown")
    expect(values.nth(1)).to_have_text("y 5")
    page.locator("#threshold-number").fill("0.002")
    page.locator("#threshold-number").press("Enter")
    expect(mask_value).to_have_text(re.compile(r"Mask 0\.0"))
    assert float(mask_value.inner_text().split()[1]) == pytest.approx(smaller, abs=0.006)
    expect(values.nth(2)).to_have_text(f"z {z}")


def windowed(volumes, at, level, width):
    stored = nibabel.load(volumes.folder / "y_hat" / "v50.nii.gz").get_fdata().T
    return 255 * np.clip((TURNED["Axial"](stored, at) - (level - width / 2)) / width, 0, 1)


def drawn(page, contrast):
    page.wait_for_url(re.compile(f"contrast={contrast}"))
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(100)


@pytest.mark.thorough
def test_a_contrast_window_by_number_preset_and_right_drag(volume_page, volume_address, volumes):
    page, at = volume_page, (7, 5, 11)
    open_volume(page, volume_address, more="?view=output&at=7,5,11")
    whole = canvas(page, "#front-canvas")
    expect(page.locator("#contrast-panel")).to_be_visible()
    expect(page.locator("#width-number")).to_have_value("4095")
    page.locator("#level-number").fill("20")
    page.locator("#level-number").press("Enter")
    page.locator("#width-number").fill("300")
    page.locator("#width-number").press("Enter")
    drawn(page, "20,300")
    close(canvas(page, "#front-canvas"), np.rint(windowed(volumes, at, 20, 300)))
    page.locator("#contrast-preset").select_option(label="Soft tissue")
    drawn(page, "40,400")
    close(canvas(page, "#front-canvas"), np.rint(windowed(volumes, at, 40, 400)))
    expect(page.locator("#level-number")).to_have_value("40")
    page.get_by_role("button", name="Truth y").click()
    page.wait_for_selector(DRAWN.format("truth"))
    stored = nibabel.load(volumes.folder / "y" / "v50.nii.gz").get_fdata().T
    close(
        canvas(page, "#front-canvas"), np.rint(255 * np.clip((TURNED["Axial"](stored, at) + 160) / 400, 0, 1))
    )
    page.keyboard.press("1")
    page.wait_for_selector(DRAWN.format("output"))
    viewport, before = page.locator("#viewport").bounding_box(), page.locator("#plane").bounding_box()
    page.mouse.move(viewport["x"] + 100, viewport["y"] + 100)
    page.mouse.down(button="right")
    page.mouse.move(viewport["x"] + 140, viewport["y"] + 80, steps=4)
    page.mouse.up(button="right")
    drawn(page, "2")
    level, width = (float(value) for value in parse_qs(page.url.partition("?")[2])["contrast"][0].split(","))
    step = (HU[1] - HU[0]) / 400
    assert (level, width) == (pytest.approx(40 + 20 * step, abs=3), pytest.approx(400 + 40 * step, abs=3))
    close(canvas(page, "#front-canvas"), np.rint(windowed(volumes, at, level, width)))
    assert page.locator("#plane").bounding_box() == before
    page.locator("#full-range").click()
    page.wait_for_url(lambda url: "contrast" not in url)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(100)
    np.testing.assert_array_equal(canvas(page, "#front-canvas"), whole)


def test_without_hu_there_are_no_presets(page, address, world):
    page.goto(f"{address}#/image/{world.shown.names[0]}")
    page.wait_for_selector("#plane:not([hidden])")
    expect(page.locator("#contrast-panel")).to_be_hidden()
    page.keyboard.press("w")
    expect(page.locator("#contrast-panel")).to_be_visible()
    expect(page.locator("#contrast-preset")).to_be_hidden()
    for part in (".slice-control", ".orientation-name", ".crosshair", ".scale-bar"):
        for each in page.locator(part).all():
            expect(each).to_be_hidden()


@pytest.mark.parametrize(
    ("step", "unit", "scale", "room", "text", "width"),
    [
        (2, "mm", 4, 140, "50 mm", 100),
        (0.35, "µm", 4, 140, "10 µm", 4 * 10 / 0.35),
        (0.5, "mm", 300, 140, "200 µm", 120),
        (2000, "nm", 10, 140, "20 µm", 100),
        (0.2, "µm", 0.01, 140, "2 mm", 100),
        (1, "m", 1, 50, "50 m", 50),
    ],
)
def test_a_scale_bar_has_a_round_length(page, address, step, unit, scale, room, text, width):
    page.goto(address)
    ask = "async (given) => (await import('/static/scale_bar.js')).scaleBar(...given)"
    bar = page.evaluate(ask, [step, unit, scale, room])
    assert bar["text"] == text
    assert bar["width"] == pytest.approx(width)


def test_the_scale_bar_is_as_long_as_it_says(volume_page, volume_address):
    page = volume_page
    open_volume(page, volume_address)
    for _ in range(2):
        for name in VIEWS:
            where = pane(page, name)
            count, unit = where.locator(".scale-bar span").inner_text().split()
            assert unit in ("mm", "µm")
            millimetres = float(count) * {"mm": 1, "µm": 1e-3}[unit]
            columns = where.locator("canvas.front").first.evaluate("canvas => canvas.width")
            pixel = where.locator(".plane").bounding_box()["width"] / columns
            expected = millimetres / STEPS[name][1] * pixel
            assert where.locator(".scale-bar i").bounding_box()["width"] == pytest.approx(expected, abs=1)
        page.keyboard.press("+")
        page.keyboard.press("+")


@pytest.mark.parametrize("size", [(360, 740), (820, 1180), (1366, 768)])
def test_it_fits_a_phone_and_a_laptop(volume_page, volume_address, size):
    page = volume_page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_volume(page, volume_address, more="?swipe=output,mask&contrast=40,400")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in VIEWS:
        box = pane(page, name).locator(".viewport").bounding_box()
        assert min(box["width"], box["height"]) >= 120, name
        assert pane(page, name).locator(".slice-control input").bounding_box()["width"] >= 70
    for part in ("#level-number", "#width-number", "#contrast-preset", "#readout"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]


@pytest.fixture
def reduced(world, monkeypatch, serving):
    """The address of a viewer that sends planes of 48 x 48 reduced."""
    monkeypatch.setattr(planes, "MOST_PIXELS", 40 * 40)
    monkeypatch.setattr(planes, "REDUCED_SIDE", 12)
    with serving(Session(world.masker, world.shown)) as url:
        yield url


def test_a_large_image_is_sharp_where_one_looks_closely(browser, reduced, world):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    name, triplet = world.partly.name, world.partly
    page.goto(f"{reduced}#/image/{name}?view=mask")
    page.wait_for_selector("#plane:not([hidden]) #front-canvas[data-view=mask]")
    mask = as_bytes(world.masker(*(np.moveaxis(i, 0, -1) for i in (triplet.x, triplet.y_hat)))[None])
    close(canvas(page, "#front-canvas"), mask[::4, ::4])
    detail = page.locator(".pane:first-child canvas.front.detail")
    viewport = page.locator("#viewport").bounding_box()
    page.mouse.move(viewport["x"] + 0.3 * viewport["width"], viewport["y"] + 0.3 * viewport["height"])
    page.mouse.wheel(0, -600)
    expect(detail).to_be_visible()
    page.wait_for_function("() => document.querySelector('canvas.front.detail').width < 40")
    left, top, width, height = detail.evaluate(
        "c => [parseFloat(c.style.left), parseFloat(c.style.top), c.width, c.height]"
    )
    part = mask[int(top) : int(top) + height, int(left) : int(left) + width]
    close(canvas(page, ".pane:first-child canvas.front.detail"), part)
    page.keyboard.press("1")
    page.wait_for_selector("canvas.front.detail[data-view=output]")
    y_hat = as_bytes(triplet.y_hat)[int(top) : int(top) + height, int(left) : int(left) + width]
    close(canvas(page, ".pane:first-child canvas.front.detail"), y_hat)
    page.close()


def test_the_page_counts_the_tiles_of_a_large_image(browser, serving, world, monkeypatch):
    image, go_on, really = np.zeros((1100, 48, 3), np.float32), Event(), Tiled.part

    def slow(tiled, window, *given, **more):
        assert window.spans[0].start == 0 or go_on.wait(30)
        return really(tiled, window, *given, **more)

    monkeypatch.setattr(Tiled, "part", slow)
    with serving(Session(world.masker, Triplets.from_arrays([image], [image], names=["strip"]))) as url:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(f"{url}#/image/strip")
        expect(page.locator("#tile-progress span")).to_have_text("Scored 1 of 2 tiles")
        assert page.locator("#tile-progress progress").evaluate("bar => bar.value / bar.max") == 0.5
        assert violations(page) == []
        go_on.set()
        page.wait_for_selector("#plane:not([hidden])")
        expect(page.locator("#tile-progress")).to_be_hidden()
        page.close()


def test_a_plane_image_with_a_spacing_has_a_scale_bar_and_true_proportions(browser, world, serving, tmp_path):
    import tifffile

    for role in ("x", "y_hat"):
        path = tmp_path / role / "cell.ome.tif"
        path.parent.mkdir()
        about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
        about |= {"PhysicalSizeY": 1.0, "PhysicalSizeYUnit": "µm"}
        pixels = np.rint(np.moveaxis(world.partly.y_hat, 0, -1) * 255).astype(np.uint8)
        tifffile.imwrite(path, pixels, ome=True, metadata=about, photometric="rgb")
    with serving(Session(world.masker, Triplets.from_folder(tmp_path, reading=Reading()))) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}#/image/cell")
        page.wait_for_selector("#plane:not([hidden])")
        box = page.locator("#plane").bounding_box()
        assert box["height"] / box["width"] == pytest.approx(2, rel=0.01)
        count, unit = page.locator("#viewport .scale-bar span").inner_text().split()
        assert unit == "µm"
        expected = float(count) / 0.5 * box["width"] / 48
        length = page.locator("#viewport .scale-bar i").bounding_box()["width"]
        assert length == pytest.approx(expected, abs=1)
        page.keyboard.press("1")
        page.wait_for_selector(DRAWN.format("output"))
        with page.expect_download() as download:
            page.locator("#save-png").click()
        saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
        right, middle = (saved.shape[1] / 2 + box["width"], round(2 * (box["height"] - 10 - 14 - 5 / 2)))
        bar = saved[middle, round(right - 2 * (12 + length)) : round(right - 2 * 12)]
        assert (bar[4:-4] == 255).all()
        assert bar[[0, -1]].max() < 60, "its edges"
        page.mouse.move(box["x"] + 10.5 * box["width"] / 48, box["y"] + 7.5 * box["height"] / 48)
        expect(page.locator("#readout span").first).to_have_text("x 10")
        expect(page.locator("#readout span").nth(1)).to_have_text("y 7")
        values = " ".join(f"{value:g}" for value in pixels[7, 10])
        expect(page.locator("#readout span").nth(2)).to_have_text(f"Output {values}")
        page.close()


def test_thumbnails_are_not_cropped(volume_page, volume_address):
    page = volume_page
    page.goto(volume_address)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.thumbnail img')].some(i => i.naturalWidth > 0)"
    )
    picture, frame = page.locator(".thumbnail img").first, page.locator(".thumbnail").first
    width, height = picture.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    assert width != height
    inside, around = picture.bounding_box(), frame.bounding_box()
    assert inside["height"] <= around["height"] + 1
    assert inside["width"] <= around["width"] + 1
