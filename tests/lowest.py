"""Print a constraint for pip for each dependency of pyproject.toml: its oldest version that is allowed.

    python tests/lowest.py [NAME ...] > constraints.txt

leaves out the packages of these names, such as torch where only its newest version is at hand.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
APART = ("careamics", "bench")
"""Extras with environments of their own."""
FLOOR = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?\s*>=\s*(?P<version>[0-9][^,;\s]*)")


def floors(left_out: set[str] = frozenset()) -> dict[str, str]:
    """The oldest allowed version of each dependency, the extras' among them, by name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [
        *project["dependencies"],
        *(each for name in extras if name not in APART for each in extras[name]),
    ]
    found: dict[str, str] = {}
    for each in listed:
        floor = FLOOR.match(each)
        if floor is None:
            if not each.startswith("conformask["):
                raise SystemExit(f"{each!r} in {PROJECT} has no lowest version")
            continue
        if floor["name"] not in left_out:
            found[floor["name"]] = floor["version"]
    return found


if __name__ == "__main__":
    for name, version in floors(set(sys.argv[1:])).items():
        print(f"{name}=={version}")
