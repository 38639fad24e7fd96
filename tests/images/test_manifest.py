"""Manifests as spreadsheets and editors save them, and what cannot be one."""

import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError, MissingFileError
from conformask.images.read import write_image
from conformask.images.triplets import Triplets
from leaves import asking

LINES = [
    ["name", "x", "y_hat", "group", "category", "weight"],
    ["eins", "x/a.png", "y_hat/ä.png", "Müller, A.", "hell", "2.5"],
    ["zwei", "x/b.png", "y_hat/b.png", "Żak; B.", "dunkel", "1"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in ("x/a.png", "x/b.png", "y_hat/ä.png", "y_hat/b.png"):
        write_image(tmp_path / path, np.zeros((1, 4, 4), np.float32))
    return tmp_path


def text(separator: str, newline: str = "\n", decimal: str = ".") -> str:
    rows = [[cell.replace(".", decimal) if at == 5 else cell for at, cell in enumerate(row)] for row in LINES]
    quoted = [[f'"{cell}"' if {*separator, '"'} & {*cell} else cell for cell in row] for row in rows]
    return "".join(separator.join(row) + newline for row in quoted)


def read(folder: Path, content: bytes) -> Triplets:
    (folder / "manifest.csv").write_bytes(content)
    return Triplets.from_folder(folder)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ","), (";", "."), ("\t", ",")])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(b"", "utf-8"), (BOM_UTF8, "utf-8"), (BOM_UTF16_LE, "utf-16-le"), (BOM_UTF16_BE, "utf-16-be")],
    ids=["UTF-8", "UTF-8 with a mark", "UTF-16 LE", "UTF-16 BE"],
)
def test_every_way_of_saving_says_the_same(
    folder: Path, mark: bytes, encoding: str, separator: str, decimal: str, newline: str
) -> None:
    triplets = read(folder, mark + text(separator, newline, decimal).encode(encoding))
    assert triplets.names == ("eins", "zwei")
    assert triplets.groups == ("Müller, A.", "Żak; B.")
    assert triplets.categories == ("hell", "dunkel")
    assert triplets.weights == (2.5, 1.0)
    assert triplets[0].y_hat.shape == (1, 4, 4)


def test_other_separators_in_the_first_line_do_not_confuse(folder: Path) -> None:
    triplets = read(folder, b'x,y_hat,"remark; of A;B;C;D"\nx/a.png,y_hat/b.png,none\n')
    assert triplets.names == ("b",)


def test_a_space_before_a_column_does_not_hide_it(folder: Path) -> None:
    """Else the truth would be taken for unknown."""
    triplets = read(folder, b"x, y_hat, y , weight\nx/a.png, y_hat/b.png, x/b.png, 2\n")
    assert triplets.has_truth
    assert triplets.weights == (2.0,)


GOOD = "x/a.png,y_hat/b.png"
LONG = "z" * 200_000
CP1252 = text(";").replace("Ż", "Z").encode("cp1252")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CP1252, r'line 2 is not text in UTF-8; save it as "CSV UTF-8"'),
        (text(",").encode("utf-16-le"), r"line \d is not text in UTF-8"),
        (text(",").encode("utf-32"), r"line 1 is not text in UTF-8"),
        (BOM_UTF16_LE + text(",").encode("utf-16-le")[:-1], r"line 3 is not text in UTF-8"),
        (f"x,y_hat\n{GOOD}\nx/b\0.png,y_hat/b.png\n".encode(), r"line 3 is not text in UTF-8"),
        (f'x,y_hat\n{GOOD}\n"x/b.png,y_hat/b.png\n'.encode(), r"line 3: unexpected end .*quotation mark"),
        (f"x,y_hat\n{GOOD},{LONG}\n".encode(), r"line 2: field larger than field limit"),
        (f"{LONG},x,y_hat\n{GOOD}\n".encode(), r"line 1: field larger than field limit"),
        (f"x,y_hat,x\n{GOOD},x/b.png\n".encode(), "line 1: two columns 'x'; keep one"),
        (f"x,y_hat,note,note\n{GOOD},1,2\n".encode(), "line 1: two columns 'note'"),
        (f"x,y_hat\n{GOOD}\n{GOOD},more\n".encode(), "line 3: more cells than line 1 has columns"),
        (f"x,y_hat,weight\n{GOOD},2,5\n".encode(), "line 2: more cells than line 1 has columns"),
        (f'x,y_hat,weight\n{GOOD},"2,5"\n'.encode(), "line 2: weight is '2,5'"),
        (b"x;y_hat;weight\nx/a.png;y_hat/b.png;1.234,5\n", "line 2: weight is '1.234.5'"),
        (f"x,y_hat,name\n{GOOD},{'n' * 250}\n".encode(), "line 2: name 'nnn.* 250 bytes; rename it"),
        (b"x|y_hat\nx/a.png|y_hat/b.png\n", r"line 1: no column 'x' among \['x\|y_hat'\]"),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_is_no_manifest_is_refused_with_its_line(folder: Path, content: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"manifest\.csv {message}"):
        read(folder, content)


@pytest.mark.parametrize(
    "path", [f"{300 * 'x'}.png", "x/" * 3000, asking("formats", "none.zarr"), "x/\n.png"]
)
def test_a_path_that_cannot_be_is_missing(folder: Path, path: str) -> None:
    with pytest.raises(MissingFileError, match=r"line \d: x names"):
        read(folder, f'x,y_hat\n"{path}",y_hat/b.png\n'.encode())


def test_names_of_files_that_are_not_utf8(folder: Path) -> None:
    for role in ("x", "y_hat"):
        os.rename(folder / role / "b.png", os.fsencode(folder / role) + b"/caf\xe9.png")
    with pytest.raises(InvalidArgumentError, match=r"'.*/x/caf\\udce9\.png': name .* not UTF-8; rename it"):
        Triplets.from_folder(folder)
