"""Pairs that are handed to the page, good and bad."""

import asyncio
import gzip
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest
import tifffile
from fastapi.testclient import TestClient
from PIL import Image
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from view_worlds import AFFINE, volume

from conformask.errors import ImageError, InvalidArgumentError
from conformask.extras.view import uploads
from conformask.extras.view.app import application
from conformask.extras.view.session import Session
from conformask.images.read import read_image
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from stacks import packed, tiff

pytestmark = pytest.mark.xdist_group("viewer")


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pair(world):
    """The files of a photograph's tile."""
    triplet = world.shown[3]
    return {
        role: png(np.rint(np.moveaxis(getattr(triplet, role), 0, -1) * 255).astype(np.uint8))
        for role in ("x", "y_hat", "y")
    }


def send(client, files, names=None, **more):
    names = names or {}
    sent = {role: (names.get(role, "mine.png"), content) for role, content in files.items()}
    return client.post("/api/uploads", files=sent, **more)


def test_a_pair_is_shown_first_under_the_name_of_its_output(client, pair):
    assert send(client, pair).json() == {"name": "mine"}
    assert send(client, {role: pair[role] for role in ("x", "y_hat")}).json() == {"name": "mine-2"}
    second, first = client.get("/api/images").json()["images"][:2]
    assert [second["name"], first["name"]] == ["mine-2", "mine"]
    assert (first["uploaded"], first["truth"], second["truth"]) == (True, True, False)
    told = client.get("/api/promise", params={"image": "mine"}).json()
    assert told["opening"]["size"] == pytest.approx(first["size"])


@pytest.mark.parametrize("role", ["x", "y_hat"])
@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd.png", "..\\x.png", ".hidden.png", ""])
def test_names_that_lead_elsewhere_are_refused(client, pair, name, role, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = send(client, pair, {role: name})
    assert answer.status_code == 400
    assert role in answer.json()["error"]
    assert list(tmp_path.iterdir()) == []
    assert not any(entry["uploaded"] for entry in client.get("/api/images").json()["images"])


def test_nothing_is_written_under_the_sent_name(client, pair, monkeypatch):
    opened = []
    really = Path.open

    def watched(path, *arguments, **more):
        opened.append(path.name)
        return really(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", watched)
    assert send(client, pair, {"y_hat": "secret-patient.png"}).status_code == 200
    assert opened
    assert not any("secret" in name for name in opened)


@pytest.mark.parametrize(
    ("change", "names", "told"),
    [
        ({"y_hat": b"no image"}, {}, "mine.png cannot be read as an image"),
        ({"x": b""}, {}, "mine.png cannot be read as an image"),
        (
            {"x": b"text"},
            {"x": "notes.txt"},
            "notes.txt is not an image that can be read; names of images must end with",
        ),
        ({"x": png(np.zeros((12, 12), np.uint8))}, {}, None),
        ({"y": png(np.zeros((5, 7, 3), np.uint8))}, {}, "they must be the same"),
        (
            {"y_hat": png(np.zeros((48, 48), np.uint8)), "y": png(np.zeros((48, 48), np.uint8))},
            {},
            "channels",
        ),
    ],
)
def test_bad_images_are_refused_in_the_library_s_words(client, pair, change, names, told):
    answer = send(client, pair | change, names)
    if told is None:  # this score does not look at x
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


@pytest.mark.parametrize(("bits", "data_range"), [(8, None), (12, None), (12, (0, 8190))])
def test_an_upload_is_read_as_a_file_of_a_folder(tmp_path, bits, data_range):
    values = np.array([[0, 1, 2**bits - 1], [7, 100, 2 ** (bits - 1)]])
    path = tiff(tmp_path / "a.tif", values.shape, [packed(values, bits)], bits)
    files = {role: UploadFile(path.open("rb"), filename="a.tif") for role in ("x", "y_hat")}
    pair = uploads.pair_of(uploads.Upload(files, {}), Reading(data_range))
    triplet = pair.triplets[0]
    assert pair.data_range == (data_range or (0, 2**bits - 1))
    np.testing.assert_array_equal(triplet.y_hat, read_image(path, Reading(data_range)))
    np.testing.assert_allclose(triplet.y_hat[0], values / (data_range or (0, 2**bits - 1))[1], atol=1e-7)


@pytest.mark.parametrize("missing", ["x", "y_hat"])
def test_half_a_pair_is_refused(client, pair, missing):
    answer = send(client, {role: content for role, content in pair.items() if role != missing})
    assert answer.status_code == 400
    assert f"the file {missing} is missing" in answer.json()["error"]


def test_no_form_at_all_is_refused(client):
    for sent in ({"content": b"{}"}, {"json": {"x": 1}}, {"data": {"x": "text", "y_hat": "text"}}):
        assert client.post("/api/uploads", **sent).status_code == 400


def test_too_much_is_refused_in_words(client, pair):
    answer = send(client, pair | {"x": bytes(uploads.MOST_BYTES)})
    assert answer.status_code == 400
    assert "larger than 64 MiB in total" in answer.json()["error"]


def run(coroutine):
    """Apart from the loop of the browser's tests."""
    with ThreadPoolExecutor() as apart:
        return apart.submit(asyncio.run, coroutine).result()


def test_too_much_is_refused_while_it_is_read():
    """The body would never end: only a limit that counts while reading stops it."""
    parts = chain(
        [b'--b\r\nContent-Disposition: form-data; name="x"; filename="x.png"\r\n\r\n'], repeat(bytes(2**16))
    )
    asked = []

    async def receive():
        asked.append(next(parts))
        return {"type": "http.request", "body": asked[-1], "more_body": True}

    async def read():
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        async with uploads.UploadReceiver(2**20).receive(
            Request({"type": "http", "headers": headers}, receive)
        ):
            pass

    with pytest.raises(ImageError, match="larger than 1 MiB"):
        run(read())
    assert sum(map(len, asked)) < 2**20 + 2**17


FORM = "multipart/form-data; boundary=b"


def request_of(body, **more):
    """A request whose body comes at once."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    headers = Headers({"content-type": FORM, "content-length": str(len(body))} | more)
    return Request({"type": "http", "headers": headers.raw}, receive)


def form_of(pair):
    part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="mine.png"\r\n\r\n%s\r\n'
    return b"".join(part % (role.encode(), content) for role, content in pair.items()) + b"--b--\r\n"


def test_uploads_share_one_limit_and_are_decoded_one_by_one(pair):
    """Three that fit together take turns; a fourth is refused at once, and taken when they are done."""
    body = form_of(pair)
    intake = uploads.UploadReceiver(3 * len(body))
    now, together = 0, []

    async def take():
        nonlocal now
        async with intake.receive(request_of(body)):
            now += 1
            together.append(now)
            await asyncio.sleep(0.01)
            now -= 1

    async def all_of_them():
        return [*await asyncio.gather(*(take() for _ in range(4)), return_exceptions=True), await take()]

    *taken, refused, afterwards = run(all_of_them())
    assert [*taken, afterwards] == [None] * 4
    assert together == [1] * 4
    assert "other uploads are being read: try again" in str(refused)


@pytest.mark.parametrize("length", ["", "no", "-1"])
def test_an_upload_that_does_not_say_its_length_takes_all_the_room(pair, length):
    intake, body = uploads.UploadReceiver(2**20), form_of(pair)

    async def two():
        async with (
            intake.receive(request_of(body, **{"content-length": length})),
            intake.receive(request_of(body)),
        ):
            pass

    with pytest.raises(InvalidArgumentError, match="other uploads are being read"):
        run(two())


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "punycode", "a\0", "utf-8"])
def test_a_form_of_another_charset_is_refused_and_its_names_do_not_spoil_the_gallery(client, pair, charset):
    body = form_of(pair).replace(b"mine.png", b"+2AA-\\ud800.png")
    form = f"{FORM}; charset={charset}".encode()
    answer = client.post("/api/uploads", content=body, headers={b"Content-Type": form})
    assert answer.status_code == 400
    assert "without a charset" in answer.json()["error"]
    assert client.get("/api/images").status_code == 200


def test_images_of_too_many_values_are_refused_by_their_headers(client, monkeypatch):
    """Forty channels: few pixels, but more than three colour images of the largest size."""
    monkeypatch.setattr(uploads, "decode_with_header", None)
    buffer = io.BytesIO()
    many = np.zeros((40, 1400, 1400), np.uint8)
    tifffile.imwrite(buffer, many, photometric="minisblack", planarconfig="separate", compression="zlib")
    files = dict.fromkeys(("x", "y_hat"), buffer.getvalue())
    answer = send(client, files, dict.fromkeys(files, "many.tif"))
    assert answer.status_code == 400
    assert (
        "x, y_hat of many take 598 MiB as float32; an upload may take up to 576 MiB" in answer.json()["error"]
    )


def nifti(image):
    """A volume (D, H, W) as .nii.gz, with the affine of the volumes."""
    return gzip.compress(nibabel.Nifti1Image(image.T, AFFINE).to_bytes())


def ome_tiff(image):
    buffer = io.BytesIO()
    about = {"axes": "ZYX", "PhysicalSizeZ": 3, "PhysicalSizeY": 1.5, "PhysicalSizeX": 2}
    about |= {f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}
    tifffile.imwrite(buffer, image, ome=True, metadata=about)
    return buffer.getvalue()


def npy(image):
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "write", "unit"),
    [("scan.nii.gz", nifti, "mm"), ("stack.ome.tif", ome_tiff, "mm"), ("stack.npy", npy, None)],
)
def test_volumes_are_taken_with_their_places(volumes, name, write, unit):
    y, y_hat = (np.clip(image, -1024, 3071) for image in volume(60))
    shown = Triplets.from_folder(volumes.folder, reading=replace(volumes.shown.reading, axes="ZYX"))
    if name.endswith(".nii.gz"):
        shown = volumes.shown
    client = TestClient(
        application(Session(volumes.masker, shown), 8000, None),
        base_url="http://127.0.0.1:8000",
        headers={"Origin": "http://127.0.0.1:8000"},
    )
    files = {"x": write(y_hat), "y_hat": write(y_hat), "y": write(y)}
    answer = send(client, files, dict.fromkeys(files, name))
    assert answer.json() == {"name": name.partition(".")[0]}, answer.text
    told = client.get(f"/api/images/{name.partition('.')[0]}").json()
    assert (told["size"], told["unit"], told["range"]) == ([10, 14, 18], unit, [-1024, 3071])
    assert told["steps"] == ([3, 1.5, 2] if unit else [1, 1, 1])
    assert told["views"][0]["name"] == ("Axial" if name.endswith(".nii.gz") else "XY")
    values = client.get(f"/api/images/{answer.json()['name']}/values", params={"x": 3, "y": 4, "z": 5}).json()
    assert values["output"][0] * 4095 - 1024 == pytest.approx(float(y_hat[5, 4, 3]), abs=1e-3)


def test_a_plane_beside_a_volume_is_refused(volume_client):
    files = {"x": nifti(volume(60)[0][0]), "y_hat": nifti(volume(60)[1])}
    answer = send(volume_client, files, dict.fromkeys(files, "scan.nii.gz"))
    assert answer.status_code == 400
    assert "some are volumes, the others are not" in answer.json()["error"]


@pytest.mark.parametrize("name", ["scan.gz", "scan.zarr", "scan.ome.zarr", "scan"])
def test_only_single_image_files_are_taken(volume_client, name):
    content = nifti(volume(60)[1])
    answer = send(volume_client, {"x": content, "y_hat": content}, {"x": "scan.nii.gz", "y_hat": name})
    assert answer.status_code == 400
    assert f"{name} is not an image that can be read" in answer.json()["error"]
    assert ".nii.gz" in answer.json()["error"]
    assert ".zarr" not in answer.json()["error"].partition("end with")[2]


def test_a_single_dicom_file_is_taken(world, tmp_path):
    file = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
    reading = Reading((-1024, 3071), clip="all")
    files = {role: UploadFile(file.open("rb"), filename="CT_small.dcm") for role in ("x", "y_hat")}
    pair = uploads.pair_of(uploads.Upload(files, {}), reading)
    assert pair.triplets.names == ("CT_small",)
    np.testing.assert_array_equal(pair.triplets[0].y_hat, read_image(file, reading.of("y_hat")))
    assert pair.geometry is not None
    assert pair.geometry.unit == "mm"
    assert [view.name for view in pair.views] == ["Axial"]


def test_many_uploads_are_refused_in_the_end(client, pair, monkeypatch):
    monkeypatch.setattr("conformask.extras.view.session.MOST_UPLOADS", 1)
    assert send(client, pair).status_code == 200
    assert "restart the viewer" in send(client, pair).json()["error"]
