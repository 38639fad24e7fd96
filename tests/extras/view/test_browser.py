"""The page in a real browser, beside what the library says."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from queue import Queue
from threading import Event, Thread
from urllib.parse import parse_qs, quote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from conformask.extras.view.app import open_browser
from conformask.extras.view.session import Session
from conformask.extras.view.uploads import MOST_BYTES
from conformask.extras.view.viewed_image import OUTSIDE, VEIL
from conformask.images.pictures import as_bytes, gray
from screens import violations

pytestmark = [pytest.mark.xdist_group("viewer"), pytest.mark.quick(0)]

DRAWN = "#front-canvas[data-view={}]"
SLID = "() => performance.getEntriesByName('slider to redraw').length"
ATTACK = """async ([address, name, bytes]) => {
  const form = new FormData();
  for (const role of ['x', 'y_hat']) form.append(role, new File([Uint8Array.from(bytes)], 'evil.png'));
  const tried = async (path, how) => {
    try { return (await fetch(address + path, how)).status; } catch (error) { return String(error); }
  };
  const picture = new Image();
  picture.src = `${address}api/images/${name}/output.png`;
  return [
    await tried('api/uploads', { method: 'POST', mode: 'no-cors', body: form }),
    await tried('api/uploads', { method: 'POST', body: form }),
    await tried('api/images'),
    await picture.decode().then(() => 'loaded', () => 'refused'),
  ];
}"""
LEVEL = 1
"""How far a byte may be off, by rounding."""


def pixels(image):
    return np.moveaxis(image, 0, -1)


def mask_bytes(masker, triplet):
    mask = np.asarray(masker(pixels(triplet.x), pixels(triplet.y_hat)))
    return as_bytes(mask[None])


def open_image(page, address, name, view="overlay", more=""):
    page.goto(f"{address}#/image/{quote(name)}?view={view}{more}")
    page.wait_for_selector(f"#plane:not([hidden]) {DRAWN.format(view)}")


def canvas(page, which="front"):
    """What a canvas shows, (H, W, 3)."""
    url = page.locator(f"#{which}-canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    shown = Image.open(io.BytesIO(b64decode(url.partition(",")[2])))
    return np.asarray(shown.convert("RGB")).astype(np.int64)


def close(shown, expected):
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert np.abs(shown - expected.astype(np.int64)).max() <= LEVEL


def slide(page, slider, share):
    """Drag a slider with the mouse, and wait for the redraw."""
    before = page.evaluate(SLID)
    box = page.locator(slider).bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function(f"before => ({SLID})() > before", arg=before)


def setting(page):
    """Threshold and confidence in the address."""
    given = parse_qs(page.url.partition("?")[2])
    return {key: float(given[key][0]) for key in ("threshold", "confidence") if key in given}


def names(page):
    return page.locator("#image-grid .card-title").all_text_contents()


@pytest.mark.quick
def test_the_gallery_opens(page, address, world):
    page.goto(f"{address}#/?sort=name")
    expect(page.locator("#image-grid li")).to_have_count(len(world.shown))
    assert names(page) == list(world.shown.names)
    expect(page.locator("#gallery-promise code")).to_have_text(world.masker.formula)
    expect(page.locator("#gallery .promise-status")).to_have_text("As calibrated")
    expect(page.locator("#gallery .measurement")).to_contain_text("of 12 images kept it")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.thumbnail img')].every(i => i.naturalWidth > 0)"
    )


def test_search_and_sorting(page, address, world):
    page.goto(address)
    sizes = {t.name: 255 - mask_bytes(world.masker, t).mean() for t in world.shown}
    page.locator("#sort").select_option("largest")
    assert names(page) == sorted(sizes, key=lambda name: -sizes[name])
    wanted = world.shown.names[0].split("_")[0]
    page.locator("#search").fill(wanted.upper())
    found = names(page)
    assert found == sorted((n for n in sizes if wanted in n), key=lambda name: -sizes[name])
    assert 0 < len(found) < len(sizes)
    page.reload()
    expect(page.locator("#image-grid li")).to_have_count(len(found))
    assert names(page) == found
    page.locator("#search").fill("nobody")
    expect(page.locator("#image-count")).to_have_text(f"0 of {len(sizes)} images")


def test_a_link_to_the_most_hidden_image_leads_on_to_the_next(page, address, world):
    hidden = {triplet.name: 1 - mask_bytes(world.masker, triplet).mean() / 255 for triplet in world.shown}
    first, second = sorted(hidden, key=lambda name: -hidden[name])[:2]
    page.goto(f"{address}#/image/{quote(first)}?sort=largest")
    expect(page.locator("#image-position")).to_have_text(f"1 of {len(world.shown)}")
    expect(page.locator("#page-loading")).to_be_hidden()
    page.locator("#next").click()
    expect(page.locator("#image-name")).to_have_text(second)
    page.keyboard.press("Escape")
    expect(page.locator("#sort")).to_have_value("largest")


def test_until_it_has_loaded_the_page_says_how_much(browser, address, world):
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(address)
    expect(bare.locator("#page-loading")).to_have_text(f"Loading {len(world.shown)} images …")
    context.close()


def test_images_beyond_the_threshold_are_found(page, address, world):
    losses = {
        t.name: float(np.abs(mask_bytes(world.masker, t) / 255 * (t.y - t.y_hat)).mean()) for t in world.shown
    }
    beyond = [name for name, loss in losses.items() if loss > world.masker.card.threshold]
    assert 0 < len(beyond) < len(losses)
    page.goto(f"{address}#/?sort=name")
    page.locator("#beyond-only").check()
    assert names(page) == beyond
    expect(page.locator("#image-grid .mask-size").first).to_contain_text("✗ beyond the threshold")
    page.reload()
    expect(page.locator("#image-grid li")).to_have_count(len(beyond))
    page.locator("#beyond-only").uncheck()
    page.locator("#sort").select_option("loss")
    assert names(page) == sorted(losses, key=lambda name: -losses[name])


@pytest.mark.quick
def test_the_mask_is_the_library_s(page, address, world):
    triplet = world.partly
    open_image(page, address, triplet.name, "mask")
    mask = mask_bytes(world.masker, triplet)
    assert mask.std() > 20
    close(canvas(page), gray(mask))
    for key, expected in (
        ("1", as_bytes(triplet.y_hat)),
        ("2", as_bytes(triplet.y_hat)),
        ("4", as_bytes(triplet.y)),
    ):
        page.keyboard.press(key)
        page.wait_for_selector(DRAWN.format({"1": "output", "2": "overlay", "4": "truth"}[key]))
        close(canvas(page), expected)


def marks(page):
    """The canvas over the plane, (H, W, 4)."""
    url = page.evaluate("document.querySelector('#viewport .hidden-marks').toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(b64decode(url.partition(",")[2])))).astype(np.int64)


def test_hidden_pixels_are_hatched_or_outlined_in_a_colour(page, address, world):
    triplet = world.partly
    open_image(page, address, triplet.name)
    page.keyboard.press("h")
    page.locator("#mark-colour").fill("#00ff00")
    page.locator("#mark-opacity").fill("1")
    size, mask = triplet.y_hat.shape[1:], gray(mask_bytes(world.masker, triplet))
    viewport, places = page.locator("#viewport").bounding_box(), where(page, triplet.y_hat.shape[1:])
    half = int(page.locator("#plane").bounding_box()["width"] / size[1] / 2) - 1

    def cells():
        """The mask of pixels, and the marks on them."""
        drawn = marks(page)
        for (row, column), (x, y) in places.items():
            down, right = round(y - viewport["y"]), round(x - viewport["x"])
            yield mask[row, column], drawn[down - half : down + half, right - half : right + half]

    strength = np.array([(255 - trusted, cell[..., 3].mean()) for trusted, cell in cells()])
    assert np.all(strength[strength[:, 0] == 0, 1] == 0), "trusted pixels are bare"
    assert np.corrcoef(strength.T)[0, 1] > 0.97
    opaque = marks(page)[..., 3] == 255
    assert [marks(page)[opaque][:, channel].max() for channel in (1, 2)] == [255, 0]
    page.locator("#mark-outline").click()
    assert all(cell[..., 3].max() == 0 for trusted, cell in cells() if trusted < 100)
    assert marks(page)[..., 3].max() == 255
    page.reload()
    expect(page.locator("#mark-outline")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#mark-colour")).to_have_value("#00ff00")


@pytest.mark.thorough
def test_the_picture_is_saved_with_its_caption(page, address, world):
    triplet = world.partly
    open_image(page, address, triplet.name)
    expect(page.locator("#facts .verdict").nth(1)).to_contain_text("threshold")
    with page.expect_download() as download:
        page.locator("#save-png").click()
    assert download.value.suggested_filename == f"{triplet.name}.png"
    saved = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
    box = page.locator("#plane").bounding_box()
    side = round(2 * box["width"])
    assert saved.shape[1] == side
    cell = side / triplet.y_hat.shape[2]
    middle = ((np.arange(triplet.y_hat.shape[2]) + 0.5) * cell).astype(int)
    bare = gray(mask_bytes(world.masker, triplet))[..., None] == 255
    close(np.where(bare, saved[np.ix_(middle, middle)], 0), np.where(bare, as_bytes(triplet.y_hat), 0))
    caption = saved[side:]
    assert len(caption) > 100
    assert caption[:20].min() == 255, "a margin"
    assert 0.01 < (caption < 100).mean() < 0.2, "letters"


@pytest.mark.thorough
def test_channels_are_switched_and_coloured(browser, serving, stained):
    first, second = stained.shown[0].y_hat
    with serving(Session(stained.masker, stained.shown)) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        open_image(page, url, stained.shown.names[0], "output", "&contrast=0.5,1")
        close(canvas(page), as_bytes(np.stack([second, first, second])))
        page.locator("#toggle-channels").click()
        page.get_by_label("Channel 1", exact=True).uncheck()
        page.get_by_label("Colour of channel 2").fill("#00ffff")
        page.wait_for_url("**channels=-00ff00,00ffff*")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(100)
        expected = as_bytes(np.stack([0 * second, second, second]))
        close(canvas(page), expected)
        expect(page.locator("#legend")).to_contain_text("Channel 1 is not shown.")
        assert violations(page) == []
        page.reload()
        page.wait_for_selector(f"#plane:not([hidden]) {DRAWN.format('output')}")
        close(canvas(page), expected)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#image-name")).to_have_text(stained.shown.names[1])
        expect(page.get_by_label("Channel 1", exact=True)).not_to_be_checked()
        page.locator("#default-colours").click()
        expect(page.get_by_label("Colour of channel 2")).to_have_value("#ff00ff")
        page.close()


@pytest.mark.thorough
def test_outside_the_region_all_is_grey_and_nothing_hatched(browser, serving, regional):
    name, outside = regional.shown.names[0], regional.region == 0
    with serving(Session(regional.masker, regional.shown)) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        open_image(page, url, name, "output", "&threshold=0")
        output = as_bytes(regional.shown[0].y_hat)
        veiled = np.where(outside[..., None], output + VEIL * (OUTSIDE - output.astype(float)), output)
        close(canvas(page), np.rint(veiled))
        expect(page.locator("#legend")).to_contain_text("Grey: outside the region")
        expect(page.locator("#facts dt").first).to_have_text("Hidden in the region")
        expect(page.locator("#facts dd").first).to_have_text("100.0 %")
        page.keyboard.press("2")
        page.wait_for_selector(DRAWN.format("overlay"))
        close(canvas(page), np.rint(veiled))
        plane, viewport = (page.locator(part).bounding_box() for part in ("#plane", "#viewport"))
        cell = plane["width"] / 48
        marks = page.locator("canvas.hidden-marks").first.evaluate(
            "(c, [left, top, side]) => [...c.getContext('2d').getImageData(left, top, side, side).data]",
            [round(plane["x"] - viewport["x"]), round(plane["y"] - viewport["y"]), round(plane["width"])],
        )
        marked = np.array(marks).reshape(round(plane["width"]), -1, 4)[..., 3] > 0
        inner = (np.array([8, 36]) * cell + [2, -2]).astype(int)
        assert marked[slice(*inner)].mean() > 0.2, "all is hidden"
        assert not marked[round(36 * cell) + 2 :].any()
        assert not marked[: round(8 * cell) - 2, : round(8 * cell) - 2].any()
        page.mouse.move(plane["x"] + 2.5 * cell, plane["y"] + 2.5 * cell)
        expect(page.locator("#readout span", has_text="Mask")).to_have_text("Mask outside the region")
        page.mouse.move(plane["x"] + 20.5 * cell, plane["y"] + 20.5 * cell)
        expect(page.locator("#readout span", has_text="Mask")).to_have_text("Mask 0.00")
        page.close()


@pytest.mark.quick
def test_a_slider_moves_mask_and_promise_as_python_does(page, address, world):
    triplet = world.partly
    open_image(page, address, triplet.name, "mask")
    before = canvas(page)
    for slider, share in (
        ("#threshold-slider", 0.35),
        ("#confidence-slider", 0.3),
        ("#threshold-slider", 0.8),
    ):
        slide(page, slider, share)
        moved = world.masker.recalibrate(**setting(page))
        mask = mask_bytes(moved, triplet)
        close(canvas(page), gray(mask))
        assert np.abs(canvas(page) - before).max() > 10
        expect(page.locator("#image code")).to_have_text(moved.formula)
        expect(page.locator("#image .promise-status")).to_have_text("Exploratory")
        mask = np.asarray(moved(pixels(triplet.x), pixels(triplet.y_hat)))
        expect(page.locator("#facts")).to_contain_text(f"{100 * (1 - mask.mean(dtype=np.float64)):.1f} %")
        distance = np.abs(mask * (triplet.y - triplet.y_hat)).mean()
        expect(page.locator("#facts div:nth-child(2) dd").first).to_have_text(re.compile(r"\d"))
        told = float(page.locator("#facts div:nth-child(2) dd").first.inner_text())
        assert told == pytest.approx(distance, rel=6e-3)
        within = distance <= moved.card.threshold * (1 + 1e-6)
        expect(
            page.locator("#facts .verdict.pass, #facts .verdict.fail").filter(has_text="threshold")
        ).to_have_text("✓ within the threshold" if within else "✗ beyond the threshold")
    page.locator("#reset").click()
    expect(page.locator("#image .promise-status")).to_have_text("As calibrated")
    expect(page.locator("#image code")).to_have_text(world.masker.formula)
    np.testing.assert_array_equal(canvas(page), before)
    assert setting(page) == {}


def test_a_typed_setting_is_taken(page, address, world):
    open_image(page, address, world.partly.name)
    page.locator("#threshold-number").fill("0.0123")
    page.locator("#threshold-number").press("Enter")
    expect(page.locator("#image code")).to_contain_text("P(l1 <= 0.0123) >= 0.90")
    expect(page.locator("#threshold-number")).to_have_attribute("aria-invalid", "false")
    page.locator("#threshold-number").fill("")
    expect(page.locator("#threshold-note")).to_have_text("0.0123 is used.")
    page.locator("#threshold-number").press("Tab")
    expect(page.locator("#threshold-number")).to_have_value("0.0123")
    expect(page.locator("#threshold-note")).to_be_empty()


@pytest.mark.parametrize(
    ("slider", "typed", "asked"),
    [("threshold", "0", 0), ("threshold", "-1", -1), ("confidence", "99.9", 0.999), ("confidence", "0", 0)],
)
def test_no_promise_stands_beside_a_number_that_is_out_of_range(page, address, world, slider, typed, asked):
    open_image(page, address, world.partly.name, "mask")
    field = page.locator(f"#{slider}-number")
    for leave in ("Enter", "Tab"):
        field.fill(typed)
        field.press(leave)
        expect(page.locator("#image .promise-status")).to_have_text("No promise here")
        expect(page.locator("#image code")).to_have_count(0)
        expect(field).to_have_value(typed)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#{slider}-note")).to_contain_text("Must be above 0")
    page.reload()
    expect(page.locator("#image .promise-status")).to_have_text("No promise here")
    assert (setting(page), field.input_value()) == ({slider: asked}, typed)


def test_where_nothing_can_be_promised_the_page_says_so(page, address, world):
    open_image(page, address, world.partly.name, "mask", "&confidence=0.9999")
    expect(page.locator("#image .promise-status")).to_have_text("No promise here")
    expect(page.locator("#image .explanation")).to_contain_text("too few for confidence 0.9999")
    assert canvas(page).max() == 0


def test_swipe_shows_one_view_left_and_the_other_right(page, address, world):
    triplet = world.partly
    open_image(page, address, triplet.name, "mask")
    page.keyboard.press("s")
    page.wait_for_selector("#back-canvas[data-view=mask]")
    page.locator("#left-view").select_option("truth")
    page.wait_for_selector(DRAWN.format("truth"))
    close(canvas(page, "front"), as_bytes(triplet.y))
    viewport, handle = page.locator("#viewport").bounding_box(), page.locator("#swipe-handle").bounding_box()
    page.mouse.move(handle["x"] + 20, handle["y"] + 40)
    page.mouse.down()
    page.mouse.move(viewport["x"] + 0.4 * viewport["width"], viewport["y"] + 60, steps=4)
    page.mouse.up()
    expect(page.locator("#swipe-handle")).to_have_attribute("aria-valuenow", "40")
    page.locator("#swipe-handle").press("ArrowRight")
    expect(page.locator("#swipe-handle")).to_have_attribute("aria-valuenow", "42")
    seen, places = screen(page), where(page, triplet.y_hat.shape[1:])
    border = viewport["x"] + 0.42 * viewport["width"]
    mask, truth = gray(mask_bytes(world.masker, triplet)), as_bytes(triplet.y)
    sides = {True: 0, False: 0}
    for (row, column), (x, y) in places.items():
        if abs(x - border) < 30 or y > viewport["y"] + viewport["height"] - 60:
            continue
        expected = truth[row, column] if x < border else np.repeat(mask[row, column], 3)
        assert np.abs(seen[round(y), round(x)].astype(int) - expected).max() <= 2
        sides[x < border] += 1
    assert min(sides.values()) > 10


def screen(page):
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def where(page, size):
    """The middles of some pixels of the image on the screen."""
    box = page.locator("#plane").bounding_box()
    scale = box["width"] / size[1]
    grid = [(row, column) for row in range(2, size[0], 5) for column in range(2, size[1], 5)]
    return {(r, c): (box["x"] + (c + 0.5) * scale, box["y"] + (r + 0.5) * scale) for r, c in grid}


def test_zoom_and_pan(page, address, world):
    open_image(page, address, world.partly.name)
    plane, viewport = page.locator("#plane"), page.locator("#viewport").bounding_box()
    fitted = plane.bounding_box()
    page.mouse.move(viewport["x"] + 200, viewport["y"] + 150)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "width => document.querySelector('#plane').getBoundingClientRect().width > width", arg=fitted["width"]
    )
    zoomed = plane.bounding_box()
    assert zoomed["width"] > 2 * fitted["width"]
    under = [(viewport["x"] + 200 - box["x"]) / box["width"] for box in (fitted, zoomed)]
    assert under[1] == pytest.approx(under[0], abs=0.01)
    page.mouse.down()
    page.mouse.move(viewport["x"] + 150, viewport["y"] + 120, steps=3)
    page.mouse.up()
    panned = plane.bounding_box()
    assert (panned["x"] - zoomed["x"], panned["y"] - zoomed["y"]) == (pytest.approx(-50), pytest.approx(-30))
    page.keyboard.press("+")
    assert plane.bounding_box()["width"] > panned["width"]
    page.keyboard.press("0")
    assert plane.bounding_box() == fitted


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(as_bytes(image)).save(buffer, "PNG")
    return buffer.getvalue()


def give(page, role, name, content):
    page.locator(f"[name={role}]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


@pytest.mark.quick
def test_an_upload_is_opened_and_joins_the_gallery(page, address, world):
    triplet = world.partly
    triplet = replace(
        triplet, **{role: np.rint(getattr(triplet, role) * 255) / 255 for role in ("x", "y_hat")}
    )
    page.goto(address)
    page.wait_for_selector("#image-grid li")
    page.keyboard.press("u")
    give(page, "x", "low.png", png(triplet.x))
    give(page, "y_hat", "my tile #1.png", png(triplet.y_hat))
    page.locator("#upload-form [type=submit]").click()
    page.wait_for_url(re.compile(r"#/image/my%20tile%20%231"))
    page.wait_for_selector("#plane:not([hidden])")
    page.keyboard.press("3")
    page.wait_for_selector(DRAWN.format("mask"))
    close(canvas(page), gray(mask_bytes(world.masker, triplet)))
    expect(page.locator("[data-view=truth]").first).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator("#image-grid li", has_text="my tile #1").locator(".mask-size")).to_contain_text(
        "uploaded"
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"hello", "notes.txt is not an image"),
        ("notes.png", b"hello", "notes.png cannot be read as an image"),
        ("../../x.png", b"hello", "must not be empty, start with a dot, or contain slashes"),
        ("cut.png", None, "cut.png cannot be read as an image"),
    ],
)
def test_a_bad_upload_is_told_where_it_was_chosen(page, address, world, name, content, told):
    page.goto(address)
    page.wait_for_selector("#image-grid li")
    page.locator("#open-upload").click()
    good = png(world.partly.y_hat)
    give(page, "x", "x.png", good)
    give(page, "y_hat", name, good[: len(good) // 2] if content is None else content)
    page.locator("#upload-form [type=submit]").click()
    expect(page.locator("#upload-error")).to_contain_text(told)
    expect(page.locator("#upload-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#image-grid")).not_to_contain_text(name)


def test_too_large_an_upload_is_told_before_it_is_sent(page, address, tmp_path):
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    page.goto(address)
    page.wait_for_selector("#image-grid li")
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    page.locator("#open-upload").click()
    for role in ("x", "y_hat"):
        page.locator(f"[name={role}]").set_input_files(large)
    page.locator("#upload-form [type=submit]").click()
    expect(page.locator("#upload-error")).to_contain_text("larger than 64 MiB in total")
    assert "POST" not in sent


def test_a_deep_link_restores_everything_and_back_goes_back(page, address, world):
    first, second = world.shown.names[1:3]
    threshold = round(0.7 * world.masker.card.threshold, 5)
    link = f"#/image/{first}?threshold={threshold}&confidence=0.8&swipe=truth,overlay"
    page.goto(address + link)
    page.wait_for_selector(DRAWN.format("truth"))
    page.wait_for_selector("#back-canvas[data-view=overlay]")
    expect(page.locator("#image-name")).to_have_text(first)
    expect(page.locator("#threshold-number")).to_have_value(f"{threshold:g}")
    expect(page.locator("#confidence-number")).to_have_value("80")
    moved = world.masker.recalibrate(threshold=threshold, confidence=0.8)
    expect(page.locator("#image code")).to_have_text(moved.formula)
    page.locator("#next").click()
    expect(page.locator("#image-name")).to_have_text(second)
    expect(page.locator("#image code")).to_have_text(moved.formula)
    page.go_back()
    expect(page.locator("#image-name")).to_have_text(first)


def test_a_link_to_an_image_that_is_not_there_is_told(browser, address, world):
    lost = browser.new_page()
    lost.goto(f"{address}#/image/nobody")
    expect(lost.locator("#page-error")).to_have_text("there is no image 'nobody' here")
    expect(lost.locator("#loading")).to_be_hidden()
    lost.keyboard.press("Escape")
    expect(lost.locator("#page-error")).to_be_hidden()
    lost.locator("#image-grid a").first.click()
    expect(lost.locator("#image code")).to_have_text(world.masker.formula)
    lost.close()


def test_keys(page, address, world):
    page.goto(f"{address}#/?sort=name")
    page.locator("#image-grid a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#image-name")).to_have_text(world.shown.names[0])
    page.wait_for_selector("#plane:not([hidden])")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#image-name")).to_have_text(world.shown.names[1])
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#image-name")).to_have_text(world.shown.names[0])
    page.wait_for_selector("#plane:not([hidden])")
    for number, view in enumerate(("output", "overlay", "mask", "truth", "input", "error"), start=1):
        page.keyboard.press(str(number))
        page.wait_for_selector(DRAWN.format(view))
        expect(page.locator(f"#view-buttons [data-view={view}]")).to_have_attribute("aria-pressed", "true")
    page.locator("#threshold-slider").focus()
    before = page.evaluate(SLID)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"before => ({SLID})() > before", arg=before)
    expect(page.locator("#image-name")).to_have_text(world.shown.names[0])
    page.keyboard.press("c")
    expect(page.locator("#image .promise-status")).to_have_text("As calibrated")
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).not_to_be_visible()
    page.locator("#open-help").focus()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("zzz?u")
    expect(page.locator("#image-grid li")).to_have_count(0)


def test_a_page_of_another_origin_reads_and_writes_nothing(browser, address, origin, world):
    """A real browser, which has the cookie, sends what it may; the upload is a whole good pair."""
    context = browser.new_context()
    mine, evil = context.new_page(), context.new_page()
    mine.goto(address)
    elsewhere(evil, "<p>evil")
    answers = evil.evaluate(ATTACK, [origin, world.shown.names[0], list(png(world.partly.y_hat))])
    assert answers[1:] == ["TypeError: Failed to fetch", "TypeError: Failed to fetch", "refused"]
    mine.reload()
    mine.wait_for_selector("#image-grid li")
    assert "evil" not in names(mine)
    context.close()


def elsewhere(page, body):
    page.route("http://evil.example/", lambda route: route.fulfill(body=body, content_type="text/html"))
    page.goto("http://evil.example/")


def test_the_token_leaves_the_address_and_scripts_do_not_see_it(page, address, origin):
    page.goto(f"{address}#/?search=a")
    expect(page.locator("#search")).to_have_value("a")
    assert page.url == f"{origin}#/?search=a"
    assert page.evaluate("[document.cookie, document.referrer, history.length]") == ["", "", 2]
    (cookie,) = page.context.cookies()
    assert cookie["name"] == f"conformask-{origin.rstrip('/').rpartition(':')[2]}"
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)


def test_a_browser_without_the_token_is_told_what_to_open(browser, origin):
    stranger = browser.new_page()
    assert stranger.goto(origin).status == 403
    expect(stranger.locator("p")).to_contain_text("open the address that conformask view printed")
    assert stranger.goto(f"{origin}static/app.js").status == 403
    stranger.close()


def test_the_file_that_view_opens_leads_to_the_gallery(browser, address, origin, monkeypatch):
    files, stopped = Queue(), Event()
    monkeypatch.setattr("webbrowser.open", files.put)
    Thread(target=open_browser, args=(address, stopped)).start()
    opened = browser.new_page()
    opened.goto(files.get(timeout=5))
    opened.wait_for_selector("#image-grid li")
    stopped.set()
    assert opened.url == origin
    opened.close()


@pytest.mark.thorough
@pytest.mark.parametrize("place", ["", "#/image/nobody"])
def test_a_link_on_another_site_opens_the_viewer(browser, address, origin, place):
    """With the token, as from a notebook's terminal, and later without: SameSite=Strict forbids neither."""
    opened = browser.new_page()
    for link in (address, origin):
        elsewhere(opened, f"<a href='{link}{place}'>view</a>")
        opened.locator("a").click()
        opened.wait_for_selector("#image-grid li")
        assert opened.url == origin
    opened.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_broken_promise_is_shown_as_one(browser, serving, broken, width):
    list(broken.look_through())
    with serving(broken) as url:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(url)
        expect(page.locator("#gallery-promise .explanation")).to_contain_text(
            "BROKEN: 0 of 12 images met the threshold ("
        )
        expect(page.locator("#gallery .measurement")).to_have_count(0)
        expect(page.locator(".sentence")).to_have_count(0)
        open_image(page, url.partition("?")[0], broken.entries()[0].name)
        for status in page.locator(".promise-status").all():
            expect(status).to_have_class("promise-status broken")
            expect(status).to_have_text("Broken here")
        page.close()


def test_hidden_pixels_can_be_removed(page, address, world):
    """Squares in two greys stand where nothing is shown, whatever the output has there."""
    triplet = world.partly
    open_image(page, address, triplet.name)
    page.locator("#toggle-marks").click()
    page.locator("#mark-remove").click()
    expect(page.locator("#legend")).to_contain_text("m × ŷ")
    expect(page.locator("#mark-colour")).to_be_disabled()
    shown = page.locator(".pane:first-child .hidden-marks").evaluate(
        """canvas => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, index) => index % 4 === 3 && value > 0).length;
        }"""
    )
    assert shown > 0
    page.reload()
    expect(page.locator("#mark-remove")).to_have_attribute("aria-pressed", "true")


@pytest.mark.thorough
def test_while_an_image_loads_nothing_of_another_stands_there(page, address, world):
    first, second = world.shown.names[:2]
    open_image(page, address, first)
    expect(page.locator("#facts")).to_contain_text("Hidden")
    release = Event()
    page.route(f"**/api/images/{quote(second)}", lambda route: (release.wait(20), route.continue_()))
    page.evaluate("name => { location.hash = `#/image/${encodeURIComponent(name)}`; }", second)
    expect(page.locator("#image-name")).to_have_text(second)
    state = page.evaluate(
        """() => [...['facts', 'image-promise', 'legend', 'readout'].map((id) =>
        document.getElementById(id).textContent), document.getElementById('save-png').disabled]"""
    )
    release.set()
    assert state == ["", "", "", "", True]
    expect(page.locator("#facts")).to_contain_text("Hidden")
    expect(page.locator("#save-png")).to_be_enabled()


def test_there_is_no_such_view_without_maps(page, address, world):
    page.goto(f"{address}#/image/{world.shown.names[0]}?view=map")
    page.wait_for_selector("#front-canvas[data-view=output]")
    assert page.locator("[data-view=map], option[value=map]").count() == 0


@pytest.mark.quick
def test_what_leaves_say_of_an_image_stands_beside_its_mask(browser, world, serving):
    text = "3100 mm\u00b3, true 2900 to 3400 mm\u00b3 in at least 9 of 10 new images"
    says = {world.partly.name: [("Volume", text)]}
    with serving(Session(world.masker, world.shown, remarks=lambda images: says)) as url:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(url)
        open_image(page, url.partition("?")[0], world.partly.name)
        row = page.locator("#facts div", has_text="Volume")
        expect(row).to_have_text(f"Volume{text}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()
