"""HTML templates; every name put into one is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template


def template(path: Path, *folders: Path) -> Template:
    """Return a template, which may include files beside it, those of other folders, and notebook.css."""
    loader = FileSystemLoader([path.parent, Path(__file__).parent, *folders], encoding="utf-8")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(path.name)
