"""What a release contains: `make dist` builds it, this test builds the same without its checks."""

import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from conformask.extensions import pip_install

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST = 5_000_000
"""Most bytes of a wheel, most of which are the weights of the packaged score."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return out


def texts():
    """What a reader may copy from: documentation, examples and messages, by file."""
    patterns = ("*.md", "docs/**/*.md", "examples/**/*.py", "examples/**/*.md", "src/**/*.py")
    paths = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def plan_of(*source):
    """What pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    command += ["--force-reinstall", "--no-build-isolation", *source]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_every_text_names_extras_that_there_are_in_one_form(built):
    named: set[str] = set()
    for place, text in texts().items():
        for written in re.findall(r"pip\s+install\s+(?:--\S+ )*['\"]?((?:conformask|\.)\[[^`\n]*)", text):
            form = re.fullmatch(r"(?:conformask|\.)\[([\w,]+)\]'.*", written)
            assert form, f"{place}: pip install {written}: write pip install 'conformask[EXTRA]'"
            named |= set(form[1].split(","))
    assert len(named) > 5
    assert named <= set(PROJECT["optional-dependencies"])
    released = plan_of("--find-links", str(built), f"conformask[{','.join(sorted(named))}]")
    assert f"Would install conformask-{PROJECT['version']}" in released


@pytest.mark.thorough
def test_what_a_message_says_installs_from_this_clone():
    *command, source = shlex.split(pip_install("onnx"))
    assert command in (["pip", "install"], ["pip", "install", "--editable"])
    assert f"Would install conformask-{PROJECT['version']}" in plan_of(source)


def sources():
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return {name.removeprefix("src/") for name in listed}


def test_the_wheel_holds_the_package_and_nothing_else(built):
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


def test_the_source_distribution_holds_what_builds_the_wheel(built):
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


def test_the_changelog_has_the_version():
    version = re.escape(PROJECT["version"])
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
