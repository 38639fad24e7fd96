"""Every snippet of README and docs runs, in a folder that holds the images that they name."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPET = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETUP = {"make demo", "make test"}
"""Run by .ci/run itself."""
DATA = """
from pathlib import Path
import torch
import conformask as cm
from conformask.data.images import write_image
from conformask.data.photographs import packaged_photographs
from conformask.data.sources import TrueImages
from conformask.predictors.classical import Bicubic
from conformask.preparation import predicted
from conformask.tasks import task
images = TrueImages.from_arrays(packaged_photographs(), 32, 96, how="tile")
sr = task("super_resolution")
for index, (_, triplet) in enumerate(predicted(images, sr, Bicubic(sr))):
    folder = ("train-images", "calibration-images", "test-images")[index % 3]
    for role in ("x", "y_hat", "y"):
        places = [folder, *["data"] * (index % 2 == 1), *["new-images"] * (index < 3 and role != "y")]
        for place in places:
            write_image(Path(place) / role / f"{index:04d}.png", getattr(triplet, role))
    if index < 3:
        for role in ("x", "y"):
            write_image(Path("mine") / role / f"{index:04d}.png", getattr(triplet, role))
split = cm.Triplets.from_folder("data").split(seed=0)
more = {"distance": "l1", "epochs": 1, "width": 4, "out": "runs/setup"}
scorer = cm.fit_scorer(split.train, selection=split.selection, **more)
cm.calibrate(scorer, split.calibration, threshold=0.02).save("masker")
Path("enhance.py").write_text("def enlarge(image): return image.repeat(4, axis=0).repeat(4, axis=1)")
"""


def snippets(page: Path) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for match in SNIPPET.finditer(page.read_text(encoding="utf-8"))]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("docs")
    run([sys.executable, "-c", DATA], path)
    return path


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "docs"))


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.name)
def test_snippets_run(page: Path, folder: Path) -> None:
    if '.save("masker")' in page.read_text(encoding="utf-8"):
        shutil.rmtree(folder / "masker")
    for language, text in snippets(page):
        if language == "python":
            run([sys.executable, "-c", text], folder)
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words and " ".join(words) not in SETUP:
                assert words[0] == "conformask", line
                run([sys.executable, "-c", "from conformask.cli import main; main()", *words[1:]], folder)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_the_test_command() -> None:
    assert any("make test" in text for language, text in snippets(ROOT / "README.md") if language == "bash")
