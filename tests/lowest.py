"""Print a constraint for pip for each dependency of pyproject.toml: its oldest version that is allowed.

    python tests/lowest.py EXTRA,EXTRA [NAME ...] > constraints.txt

prints those of the core and of these extras, but for packages of these names, such as torch where only its
newest version is at hand.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
FLOOR = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?\s*>=\s*(?P<version>[0-9][^,;\s]*)")


def floors(extras, left_out=()):
    """The oldest allowed version of each dependency of the core and of some extras, by name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = {}
    for listed in (project["dependencies"], *(project["optional-dependencies"][name] for name in extras)):
        for each in listed:
            floor = FLOOR.match(each)
            if floor is not None and floor["name"] not in left_out:
                found[floor["name"]] = floor["version"]
            elif floor is None and not each.startswith("conformask["):
                raise SystemExit(f"{each!r} in {PROJECT} has no lowest version")
    return found


if __name__ == "__main__":
    for name, version in floors(sys.argv[1].split(","), sys.argv[2:]).items():
        print(f"{name}=={version}")
