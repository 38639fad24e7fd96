"""What a release contains: `make dist` builds it, this test builds the same without its checks."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST = 5_000_000
"""Most bytes of a wheel, most of which are the weights of the packaged score."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return out


def sources() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return {name.removeprefix("src/") for name in listed}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"conformask-{PROJECT['version']}-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    with ZipFile(wheel) as archive:
        about = f"conformask-{PROJECT['version']}.dist-info"
        inside = {name for name in archive.namelist() if not name.startswith(f"{about}/")}
        entries = archive.read(f"{about}/entry_points.txt").decode()
        assert f"{about}/licenses/LICENSE" in archive.namelist()
    assert inside == sources()
    assert "conformask = conformask.cli:main" in entries
    assert "[conformask.formats]" in entries


def test_the_source_distribution_holds_what_builds_the_wheel(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        ".gitignore",
        "PKG-INFO",
    }
    assert names == beside | {f"src/{name}" for name in sources()}


def test_the_version_is_that_of_pyproject_everywhere() -> None:
    version = re.escape(PROJECT["version"])
    assert re.search(
        rf'^{{% set version = "{version}" %}}$', (ROOT / "packaging/conda/meta.yaml").read_text(), re.M
    )
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def test_the_conda_recipe_has_the_dependencies_of_pyproject() -> None:
    recipe = (ROOT / "packaging/conda/meta.yaml").read_text(encoding="utf-8")
    for dependency in PROJECT["dependencies"]:
        name, versions = re.fullmatch(r"([\w-]+)(.*)", dependency).groups()
        assert f"    - {'pytorch' if name == 'torch' else name} {versions}\n" in recipe
