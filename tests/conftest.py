"""What all tests share; `make types` has shapes and types checked inside conformask as well."""

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest

from warm import WarmPython

TYPES = os.environ.get("CONFORMASK_TYPES") == "1"
"""Whether every call inside conformask is checked, which takes nearly twice as long."""
if TYPES:
    from jaxtyping import install_import_hook

    install_import_hook("conformask", "typechecked.typechecked")

gc.disable()  # until all tests are collected: a third of the time goes into collections that find nothing

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_finish() -> None:
    """Collect garbage again, but not what all tests share."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def browser():
    """Chromium; tests with it are in the group `viewer`, since there may be one in a process."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (make browser)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def warm():
    """Runs code in a process of its own that has imported conformask."""
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory, warm) -> Path:
    """A folder with demo/ as `make demo` leaves it without a terminal, and what that printed.

    Do not write into it. Tests with it are in the group `demo`, since it takes a while.
    """
    folder: Path = tmp_path_factory.mktemp("demonstration")
    done = warm.run("from conformask.cli import main; main(['demo', '--out', 'demo'])", folder)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def found_in(monkeypatch: pytest.MonkeyPatch):
    """Lets this process find the packages of a folder, perhaps instead of those of another."""
    from conformask.extensions import _claims

    folders: list[Path] = []

    def forget() -> None:
        _claims.cache_clear()
        for name in {module.stem for folder in folders for module in folder.glob("*.py")}:
            sys.modules.pop(name, None)

    def find(folder: Path, instead_of: Path | None = None) -> None:
        if instead_of is not None:
            sys.path.remove(str(instead_of))
        monkeypatch.syspath_prepend(str(folder))
        folders.append(folder)
        forget()

    yield find
    forget()
