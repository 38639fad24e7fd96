"""HTML templates beside this file; every name put into one is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template


def template(name: str) -> Template:
    """Return the template with this file name."""
    loader = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name)
