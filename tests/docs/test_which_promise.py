"""The form of docs/promises.md: its commands are conformask's, its sentences those that maskers say."""

import itertools
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

import conformask as cm
from conformask.cli import build, verbs_of
from conformask.cli.options import MARGINAL
from conformask.errors import InvalidArgumentError
from conformask.losses.means import Mean
from conformask.promises.promise import GUARANTEES, plan, promise
from synthetic_triplets import scale_of, triplets

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import which_promise  # noqa: E402
from which_promise import LOSSES, SCOPES, SURE, VALUES, Choice  # noqa: E402

pytestmark = pytest.mark.xdist_group("site")
"""Where the site is built."""


@cache
def refusal(scope, guarantee):
    """Why there is no such promise; the numbers do not matter."""
    try:
        _ = Choice("local", scope, guarantee, 0.1, 0.9, 0.05).promise
    except InvalidArgumentError as error:
        return str(error)
    return None


def possible(choice):
    return refusal(choice.scope, choice.guarantee) is None


@pytest.fixture(scope="module")
def choices():
    return list(filter(possible, which_promise.choices()))


def one_of_each(choices):
    """Every promise once, the losses and thresholds in turn."""
    promises = {(choice.scope, choice.named, *choice.levels.values()) for choice in choices}
    pairs = itertools.cycle(itertools.product(LOSSES, which_promise.NUMBERS["threshold"]))
    for (scope, named, *_), levels in ((key, key[2:]) for key in sorted(promises)):
        loss, threshold = next(pairs)
        taken = dict(zip(sorted(which_promise.takes(named)), levels, strict=True))
        yield Choice(loss, scope, named, threshold, **{**which_promise.DEFAULTS, **taken})


def check_command(choice):
    """The command line reads it as the promise, the loss and the threshold that were chosen."""
    tokens = choice.command.split()
    assert tokens[:4] == ["conformask", "calibrate", "RUN", "DATA"]
    verb, bound, _ = build(verbs_of([])).parse_args(tokens[1:], print_error=False, exit_on_error=False)
    given = bound.arguments
    assert verb.__name__ == "calibrate"
    assert promise(given.get("promise", MARGINAL)) == choice.promise
    assert given["about"].chosen(Mean("l1"), None) == VALUES[choice.loss]
    assert float(given["threshold"]) == choice.threshold


def test_all_guarantees_are_there():
    assert set(SURE) == set(GUARANTEES)
    assert len(SURE) - len(which_promise.FIRST) == 8


def test_every_guarantee_has_a_promise(choices):
    assert {choice.guarantee for choice in choices} == set(SURE)
    assert {choice.scope for choice in choices} == set(SCOPES)
    assert {choice.loss for choice in choices} == set(LOSSES)


@pytest.mark.thorough
def test_the_command_line_takes_every_promise(choices):
    for choice in one_of_each(choices):
        check_command(choice)


@pytest.mark.slow
def test_the_command_line_takes_every_command(choices):
    for choice in choices:
        check_command(choice)


TAKE_LONG = set(itertools.product(["simultaneous"], (0.8, 0.95, 0.99), (0.01, 0.05, 0.1)))
"""Promises whose smallest calibration set is found in seconds."""


@pytest.mark.thorough
def test_the_numbers_are_those_of_plan(choices):
    for choice in one_of_each(choices):
        if (choice.named, choice.confidence, choice.delta) in TAKE_LONG:
            continue
        promise, loss = choice.promise, VALUES[choice.loss]
        own = promise.own_bounds and loss.traits.own_bounds
        planned = plan(promise, choice.threshold, None if own else loss.traits.upper_bound, n=1)
        assert choice.needed == f"{planned.n_calibration} {planned.unit}", choice


def masker_of(choice):
    """A masker from the smallest calibration set."""
    promise, units = choice.promise, choice.n_units
    n = units * which_promise.images_per_unit(promise)
    columns: dict[str, Any] = {
        "group": [str(index // which_promise.MANY) for index in range(n)],
        "category": [str(index % which_promise.MANY) for index in range(n)],
        "weight": [1.0] * n,
    }
    names = {"group": "groups", "category": "categories", "weight": "weights"}
    used = {names[column]: columns[column] for column in promise.columns}
    return cm.calibrate(
        cm.Heuristic(scale_of, channels=1),
        triplets(n, 0, (16, 16), **used),
        threshold=choice.threshold,
        loss=VALUES[choice.loss],
        promise=promise,
        selection=triplets(20, 1, (16, 16)),
    )


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scope", SCOPES)
def test_a_masker_says_the_sentence_of_every_promise(scope):
    for name in SURE:
        choice = Choice("local", scope, name, 0.1, 0.9, 0.05)
        if possible(choice):
            check_words(choice)


@pytest.mark.quick(1)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["marginal", "expected"])
def test_a_masker_says_the_sentence_of_every_loss(name, loss):
    check_words(Choice(loss, "image", name, 0.05, 0.8, 0.1))


def check_words(choice):
    """The form says what a masker says; that so few images hide everything is left out."""
    masker = masker_of(choice)
    assert f"{masker.sentence.partition('; this is kept only by')[0].rstrip('.')}." == choice.card.sentence
    assert masker.formula.partition(", kept only by")[0] == choice.card.formula


def test_the_tables_of_the_page_have_the_same_arguments():
    page = (DOCS / "promises.md").read_text(encoding="utf-8")
    for option in (*LOSSES.values(), *SCOPES.values()):
        assert not option.arguments or f"`{option.arguments}`" in page


@pytest.fixture(scope="module")
def page(browser, site):
    page = browser.new_page()
    page.goto((site / "promises.html").as_uri())
    yield page
    page.close()


@pytest.mark.thorough
def test_the_form_says_the_same_of_every_choice(page):
    for choice, answer in zip(which_promise.choices(), answers(page), strict=True):
        expected: dict[str, str | None] = {"refused": refusal(choice.scope, choice.guarantee)}
        if possible(choice):
            expected = {"command": choice.command, "needed": choice.needed}
            expected |= {name: getattr(choice.card, name) for name in ("sentence", "formula")}
        assert {key: answer[key] for key in expected} == expected


def answers(page):
    given = [
        {key: f"{value:g}" if isinstance(value, float) else value for key, value in vars(choice).items()}
        for choice in which_promise.choices()
    ]
    found: list[dict[str, str]] = json.loads(
        page.evaluate("choices => JSON.stringify(choices.map(answerTo))", given)
    )
    return found


@pytest.mark.thorough
def test_it_is_answered_with_the_keyboard(page):
    page.reload()
    form = page.get_by_role("form", name="Which promise?")
    command, sentence = form.locator(".command"), form.locator(".sentence")
    expect(command).to_have_text("conformask calibrate RUN DATA --threshold 0.1 --over local --window 9")
    expect(form.get_by_label("delta")).to_be_disabled()
    form.locator("input[name=scope]:checked").focus()
    page.keyboard.press("ArrowDown")
    expect(command).to_have_text(re.compile("--unit group$"))
    expect(form.locator(".needed")).to_have_text("at least 9 groups, and a column group in manifest.csv.")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(command).to_have_text(re.compile("--unit group --guarantee pac$"))
    expect(sentence).to_have_text(Choice("local", "group", "pac", 0.1, 0.9, 0.05).card.sentence)
    form.get_by_label("delta").select_option("0.1")
    expect(form.locator(".needed")).to_have_text(re.compile("at least 22 groups"))
    page.keyboard.press("Shift+Tab")


@pytest.mark.thorough
def test_what_has_no_theorem_cannot_be_chosen(page):
    page.reload()
    form = page.get_by_role("form", name="Which promise?")
    form.get_by_text("More: eight other guarantees").click()
    for scope in SCOPES:
        form.locator("[name=guarantee][value=marginal]").check()
        form.locator(f"[name=scope][value={scope}]").check()
        for guarantee in SURE:
            possible = refusal(scope, guarantee) is None
            expect(form.locator(f"[name=guarantee][value={guarantee}]")).to_be_enabled(enabled=possible)
    expect(form.locator(".unproven")).to_be_visible()
    form.get_by_label("a new image; no two").check()
    form.get_by_label("adaptive").check()
    expect(form.get_by_label("a random image of a new patient")).to_be_disabled()
    expect(form.locator(".command")).to_have_text(re.compile("--guarantee adaptive$"))


@pytest.mark.thorough
def test_without_scripts_the_tables_are_there_and_the_form_is_not(browser, site):
    page = browser.new_page(java_script_enabled=False)
    page.goto((site / "promises.html").as_uri())
    expect(page.locator("#promise-form")).to_be_hidden()
    expect(page.get_by_role("heading", name="3. How sure?")).to_be_visible()
    assert page.content().index('id="promise-form"') < page.content().index(
        "A masker comes with one sentence"
    )
    expect(page.get_by_role("table")).to_have_count(6)
    page.close()
