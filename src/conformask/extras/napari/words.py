"""Texts of the widget: the promise in the words of the web viewer, and facts about the image."""

from html import escape

from conformask.extras.view.sliders import SliderState
from conformask.records.numbers import rounded_share

TONES = {"calibrated": "#00735a", "simultaneous": "#00735a", "exploratory": "#ad4d06"}
BAD = "#b84500"
"""Tones of the light viewer, behind white letters, by the name of a standing; BAD for the others."""
MARKS = {"calibrated": "✓", "simultaneous": "✓", "exploratory": "~"}


def promise_html(state: SliderState) -> str:
    """Return the promise at a setting, and how far it can be relied on."""
    name, title = state.status.name, escape(state.status.title)
    tone, mark = TONES.get(name, BAD), MARKS.get(name, "✗")
    badge = f'<b style="background-color: {tone}; color: white">&nbsp;{mark} {title}&nbsp;</b>'
    sentence = "" if state.sentence is None else f"<big>{escape(state.sentence)}</big>"
    notes = (
        escape(note or "") for note in (state.status.text, state.useless, state.score, state.about_masks)
    )
    loss = f" Loss: {escape(state.loss or '')}."
    formula = "" if state.formula is None else f"<small><code>{escape(state.formula)}</code>{loss}</small>"
    paragraphs = (badge, sentence, *notes, formula)
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs if paragraph)


def trouble_html(trouble: str | None) -> str:
    """Return what is wrong with the chosen run or layers; empty if nothing is."""
    tone = f"background-color: {BAD}; color: white"
    return "" if trouble is None else f'<span style="{tone}">&nbsp;✗ {escape(trouble)}&nbsp;</span>'


def image_html(title: str, size: float, bound: str | None, *notes: str | None) -> str:
    """Return how much is hidden of an image, its bound, and further notes on its mask."""
    facts = [f"{title}: <b>{rounded_share(size)} hidden</b>"]
    if bound is not None:
        facts.append(f"Promised without a mask: {escape(bound)}")
    return "".join(f"<p>{paragraph}</p>" for paragraph in (*facts, *(escape(note) for note in notes if note)))
