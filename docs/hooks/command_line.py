"""Writes the reference of the command line from the verbs' own help."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from conformask.cli import VERBS, build

PLACE = "<!-- verbs -->"
ITEMS = re.compile(r"^\* .*\n(?:(?:\* | {4}).*\n)*", re.MULTILINE)
ITEM = re.compile(r"\* `(?P<name>[^`]+)`: (?P<text>.*?)(?P<tags>(?: \*+\[[^]]*\]\*+)*)$")
TAG = re.compile(r"\*+\[(?:(\w+): )?([^]]*)\]\*+")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if PLACE not in markdown:
        return markdown
    return markdown.replace(PLACE, "\n".join(reference(verb) for verb in VERBS))


def reference(verb: str) -> str:
    """Usage, what it does, and a table each of arguments and of parameters."""
    whole = build().generate_docs(heading_level=1)
    start = whole.index(f"## conformask {verb}\n")
    end = whole.find("\n## conformask", start + 1)
    text = whole[start : end if end > 0 else None]
    text = text.replace(f"conformask {verb} {verb}", f"conformask {verb}")  # cyclopts, where usage is given
    return ITEMS.sub(lambda items: table(items[0]), text + "\n")


def table(items: str) -> str:
    lines = re.sub(r"\n {4}", " ", items).splitlines()
    return "\n".join(["| | | default |", "|---|---|---|", *map(row, lines), ""])


def row(item: str) -> str:
    found = ITEM.fullmatch(item)
    if found is None:
        raise ValueError(f"the help of the command line reads differently: {item}")
    tags = dict(TAG.findall(found["tags"]))
    text = found["text"].replace("|", r"\|") + (f" One of {tags['choices']}." if "choices" in tags else "")
    default = f"`{tags['default']}`" if "default" in tags else "required" if "" in tags else ""
    name, *values = found["name"].split()
    return f"| `{name}` {' '.join(values)} | {text} | {default} |"
