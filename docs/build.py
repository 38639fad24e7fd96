"""Builds the documentation with Zensical: `python docs/build.py SITE` replaces the folder SITE.

Zensical runs no hooks, so what it reads is assembled first: the pages of docs/, those that lie elsewhere in
the repository (with links as in the repository), the reference of the command line, which is written from the
help of its verbs, and the list of the names in the reference of Python.
"""

import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from which_promise import form

from conformask.cli import build, verbs_of
from conformask.extras.view.share import SharedCase, SharedImage, page as share_page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/results/paper.md": "results/table-1.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "src/conformask/scores/packaged.md": "packaged-scorer.md",
    "maskbench/RESULTS.md": "results/maskbench.md",
    "maskbench/results.svg": "images/maskbench.svg",
}
"""Places in the repository, and in the site; paper.md lies beside a file that would get its name."""
LINK = re.compile(r"\[([^]]*)\]\(([^)#:]+)(#[^)]*)?\)")
TRY_BY_CLONE, TRY_HERE = "`make docs`, then open `site/try.html`", '<a href="try.html">try them</a>'
VERBS_HERE, NAMES_HERE, FORM_HERE = "<!-- verbs -->", "<!-- names -->", "<!-- form -->"
STEPS = (
    "triplets", "losses", "scores", "calibration", "masks", "monitoring", "libraries", "extending", "errors",
)  # fmt: skip
"""Pages of docs/reference/python, in the order of the data flow."""
ITEMS = re.compile(r"^\* .*\n(?:(?:\* | {4}).*\n)*", re.MULTILINE)
ITEM = re.compile(r"\* `(?P<name>[^`]+)`: (?P<text>.*?)(?P<tags>(?: \*+\[[^]]*\]\*+)*)$")
TAG = re.compile(r"\*+\[(?:(\w+): )?([^]]*)\]\*+")
UNSEARCHED = "results/"
"""Pages that the search leaves out: their tables name all tasks and losses."""


def assemble(folder: Path) -> None:
    """Write all pages as the site has them."""
    docs = folder / "docs"
    ignored = shutil.ignore_patterns("*.py", "__pycache__", "theme", "paper.md", "try.json")
    shutil.copytree(ROOT / "docs", docs, ignore=ignored)
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for name in ("docs/theme", "docs/shapes.py", "src"):
        (folder / Path(name).name).symlink_to(ROOT / name)
    names = {f"docs/{path.relative_to(docs).as_posix()}": path for path in docs.rglob("*.md")}
    for place, path in (names | {place: docs / name for place, name in PAGES.items()}).items():
        text = (ROOT / place).read_text(encoding="utf-8")
        if VERBS_HERE in text:
            verbs = verbs_of([])
            whole = build(verbs).generate_docs(heading_level=1)
            text = text.replace(VERBS_HERE, "\n".join(reference(verb, whole) for verb in verbs))
        text = text.replace(NAMES_HERE, "\n".join(names_by_step())).replace(TRY_BY_CLONE, TRY_HERE)
        path.write_text(with_links_of_site(text, place), encoding="utf-8")


def with_links_of_site(text: str, place: str) -> str:
    """The text of a page of the repository, with links to the places that pages have in the site.

    What the site does not have, such as a script, is named in place of the link, after a colon in brackets.
    """
    name = PAGES.get(place, place.removeprefix("docs/"))

    def in_site(link: re.Match[str]) -> str:
        text, target, heading = link.groups(default="")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if not (ROOT / target).exists():
            return link[0]  # code, or another page's part
        if target in PAGES or (target.startswith("docs/") and not target.endswith(".py")):
            called = PAGES.get(target, target.removeprefix("docs/"))
            return f"[{text}]({posixpath.relpath(called, posixpath.dirname(name) or '.')}{heading})"
        if text == target:
            return f"`{target}`"
        in_brackets = link.string[link.start() - 1 : link.start()] == "("
        return f"{text}: `{target}`" if in_brackets else f"{text} (`{target}`)"

    return LINK.sub(in_site, text)


def reference(verb: str, whole: str) -> str:
    """Usage of a verb from the help of all, what it does, and a table each of arguments and of parameters."""
    start = whole.index(f"## conformask {verb}\n")
    end = whole.find("\n## conformask", start + 1)
    text = whole[start : end if end > 0 else None]
    text = text.replace(f"conformask {verb} {verb}", f"conformask {verb}")  # cyclopts, where usage is given
    return ITEMS.sub(lambda items: table(items[0]), text + "\n")


def names_by_step() -> Iterator[str]:
    """Yield the lines of a table: each page of the reference of Python, and links to the names on it."""
    yield from ("| step | names |", "|---|---|")
    for step in STEPS:
        text = (ROOT / "docs" / "reference" / "python" / f"{step}.md").read_text(encoding="utf-8")
        objects = re.findall(r"^::: (\S+)", text, re.MULTILINE)
        links = [f"[`{name.rpartition('.')[2]}`](python/{step}.md#{name})" for name in objects]
        yield f"| [{text.splitlines()[0].removeprefix('# ')}](python/{step}.md) | {', '.join(links)} |"


def table(items: str) -> str:
    lines = re.sub(r"\n {4}", " ", items).splitlines()
    return "\n".join(["| option | what it does | default |", "|---|---|---|", *map(row, lines), ""])


def row(item: str) -> str:
    found = ITEM.fullmatch(item)
    if found is None:
        raise ValueError(f"the help of the command line reads differently: {item}")
    tags = dict(TAG.findall(found["tags"]))
    text = found["text"].replace("|", r"\|") + (f" One of {tags['choices']}." if "choices" in tags else "")
    default = f"`{tags['default']}`" if "default" in tags else "required" if "" in tags else ""
    name, *values = found["name"].split()
    return f"| `{name}` {' '.join(values)} | {text} | {default} |"


def finish(site: Path) -> None:
    """Fold the long sections, and lead home from the paper's figures, which are a page by themselves.

    An empty head of a table is no head, or it would be read out as one without a name. The page of
    promises gets its form, the search forgets results, and the page to try is written.
    """
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"<th([^>]*)></th>", r"<td\1></td>", html), encoding="utf-8")
    (site / "try.html").write_text(share_page(cases(ROOT / "docs" / "try.json")), encoding="utf-8")
    search = site / "search.json"
    index = json.loads(search.read_text(encoding="utf-8"))
    index["items"] = [item for item in index["items"] if not item["location"].startswith(UNSEARCHED)]
    search.write_text(json.dumps(index), encoding="utf-8")
    promises = site / "promises.html"
    text = promises.read_text(encoding="utf-8")
    if FORM_HERE not in text:
        raise ValueError(f"{promises} has no place for the form: {FORM_HERE}")
    promises.write_text(text.replace(FORM_HERE, form()), encoding="utf-8")
    figures = site / "results" / "paper.html"
    first = '<p class="eyebrow">'
    linked = f'{first}<a style="color: inherit" href="../index.html">conformask</a>'
    text = figures.read_text(encoding="utf-8")
    figures.write_text(text.replace(f"{first}conformask", linked, 1), encoding="utf-8")


def cases(path: Path) -> list[SharedCase]:
    """What research/try_page.py wrote for the page that runs without an installation."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [
        SharedCase(**case | {"images": [SharedImage(**image) for image in case["images"]]}) for case in stored
    ]


def main(site: Path) -> None:
    """Build the site in place of what this folder contains."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        assemble(folder)
        command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
        done = subprocess.run(
            [*command, "-f", folder / "mkdocs.yml"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        finish(folder / "site")
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(folder / "site", site)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
