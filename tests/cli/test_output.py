"""Exit statuses, help, and the purity of standard output."""

import json
import os
import re
import subprocess
import sys
from typing import get_args

import pytest

from conformask.cli import build, main, verbs_of
from conformask.cli.options import RENAMED
from conformask.cli.verb import GROUPS
from conformask.losses import loss
from conformask.losses.distances import BUILT_IN as DISTANCES, MAPS
from conformask.masks.families import FAMILIES
from conformask.promises.promise import GUARANTEES, UNITS
from conformask.records import names
from conformask.scores.network_scorer import HEADS
from screens import drawn

INSTALLED = verbs_of([])
"""The verbs of this tree; those of a leaf that was deleted are not there."""
LOOK = """
import sys
from conformask.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = ["torch", "lightning", "skimage", "scipy.stats", "scipy.optimize", "scipy.sparse"]
# scipy alone loads none of its parts
heavy += ["rich.progress", "conformask.masker"] if sys.argv[1].startswith("--") else []
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def fresh(*tokens):
    return subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, tokens)], capture_output=True, text=True, check=True
    )


def test_help_lists_every_verb_in_one_line(conformask):
    answer = conformask("--help")
    assert answer.status == 0
    for verb in INSTALLED:
        assert any(f" {verb} " in line for line in answer.out.splitlines()), verb


def test_verbs_stand_in_groups_in_the_order_of_the_work(conformask):
    shown = conformask("--help").out
    assert len({verb.place for verb in INSTALLED.values()}) == len(INSTALLED)
    assert [*INSTALLED] == sorted(INSTALLED, key=lambda name: shown.index(f"│ {name} "))
    titles = [title for title in GROUPS if title in {verb.group for verb in INSTALLED.values()}]
    assert titles == sorted(titles, key=lambda title: shown.index(f"─ {title} "))


@pytest.mark.parametrize("verb", INSTALLED)
def test_every_verb_has_an_example(conformask, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = " ".join(conformask(verb, "--help").out.split())
    example = INSTALLED[verb].example
    assert f"Example: conformask {example}" in shown
    build(INSTALLED).parse_args(example.split(), print_error=False, exit_on_error=False)


@pytest.mark.leaf("view")
def test_a_description_is_one_paragraph(conformask, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip("│ ") for line in conformask("view", "--help").out.splitlines()]
    assert "with a manifest.csv. Of one that is split, the test part is" in lines


def test_a_terminal_gets_sentences_by_words_and_commands_whole():
    sentence, command = (
        "In at least 9 of 10 images [sic] :a: is shown. " * 3,
        f"conformask mask {'r' * 30} NEW",
    )
    shown = drawn(
        f"from conformask.cli.output import show\nshow({{}}, *{[sentence, command]}, as_json=False)", 40
    )
    assert max(map(len, shown[:-1])) <= 40
    assert (" ".join(shown[:-1]), shown[-1]) == (sentence.strip(), command)


@pytest.mark.leaf("make")
def test_help_ends_with_what_to_do_next(conformask):
    said = " ".join(conformask("--help").out.split())
    assert said.endswith("For options and an example: conformask COMMAND --help")
    assert "To try it: conformask demo " in said


REPOSITORY = ("docs/", "examples/", "research/", "benchmarks/", "README.md", "SECURITY.md", "CHANGELOG.md")
"""What an installed user does not have."""


@pytest.mark.parametrize("verb", ["", *INSTALLED])
def test_help_points_to_nothing_that_is_not_installed(conformask, verb):
    said = conformask(*filter(None, [verb]), "--help").out
    assert [name for name in REPOSITORY if name in said] == []


@pytest.mark.quick(6)
@pytest.mark.parametrize("verb", ["", *INSTALLED])
def test_help_breaks_no_word_and_fits_the_terminal(conformask, monkeypatch, verb):
    pages = {}
    for width in (60, 80, 120, 1000):
        monkeypatch.setenv("COLUMNS", str(width))
        pages[width] = conformask(*filter(None, [verb]), "--help").out
        assert max(map(len, pages[width].splitlines())) <= width
    assert len({tuple(sorted(re.findall(r"[^\s─╭╮╰╯│]+", page))) for page in pages.values()}) == 1


@pytest.mark.leaf("train")
def test_a_missing_argument_is_answered_with_an_example(conformask):
    answer = conformask("train")
    assert answer.status == 2
    assert f"for example: conformask {INSTALLED['train'].example}" in answer.err


@pytest.mark.parametrize("verb", INSTALLED)
def test_every_verb_describes_describes_its_parameters(conformask, verb):
    answer = conformask(verb, "--help")
    assert answer.status == 0
    assert "--json" in answer.out
    for noise in ("--no-json", "--no-resume", "--empty-", "None", ":class:", "`"):
        assert noise not in answer.out.replace("--empty-chunks", "")


@pytest.mark.parametrize(
    "tokens",
    [
        ("nonsense",),
        ("train",),
        ("info", "run", "--nonsense"),
        ("train", "data", "run", "--scorer", "guess"),
        ("calibrate", "run", "--confidence", "often"),
        ("triplets", "images", "data", "--task", "completion", "--predictor", "biharmonic"),
    ],
)
def test_bad_usage_is_2_and_says_so_on_standard_error(conformask, tokens):
    answer = conformask(*tokens)
    assert answer.status == 2
    assert answer.out == ""
    assert "Error" in answer.err


@pytest.mark.parametrize(
    ("tokens", "verb"),
    [
        (("calibrate", "run"), "thresholds"),
        (("calibrate", "run", "--threshold", "0.1"), "recalibrate"),
        (("calibrate", "run", "--confidence", "0.8"), "recalibrate"),
        (("calibrate", "run", "data", "--confidence", "0.8"), "thresholds"),
    ],
)
def test_calibrate_without_images_or_threshold_names_the_verb_for_it(conformask, tokens, verb):
    answer = conformask(*tokens)
    assert (answer.status, answer.out) == (2, "")
    assert f"conformask {verb} run" in answer.err


RENAMED_IN = {
    "--as": "export", "--by": "train", "--distance": "train", "--headless": "view", "--like": "mask",
    "--no-view": "look", "--other-network": "mask",
    "--scratch": "train", "--seg": "mask", "--whole": "calibrate", "--with": "export", "--within": "plan",
}  # fmt: skip
"""For each renamed option, a verb that has it."""


@pytest.mark.leaf("export", "make", "train", "view")
@pytest.mark.parametrize("old", RENAMED_IN)
def test_an_old_option_is_answered_with_its_new_name(conformask, old):
    folders = [] if RENAMED_IN[old] == "plan" else ["folder"]
    renamed = RENAMED | INSTALLED[RENAMED_IN[old]].renamed
    for tokens in ([old], [f"{old}=1"], [old, "1"]):
        answer = conformask(RENAMED_IN[old], *folders, *tokens)
        assert (answer.status, answer.out) == (2, "")
        assert f"Unknown option: {old}. It is now called {renamed[old]}." in answer.err


@pytest.mark.leaf("view")
@pytest.mark.parametrize("wrong", ["--no-tokn", "--no-open", "--no-browsr"])
def test_no_mistake_is_answered_with_the_option_that_turns_a_protection_off(conformask, wrong):
    for more in ([], ["--json"]):
        answer = conformask("view", "run", "data", wrong, *more)
        assert answer.status == 2
        assert f"Unknown option: {wrong}." in answer.err
        assert "--no-token" not in answer.err + answer.out


def test_a_verb_that_has_no_such_option_names_none(conformask):
    answer = conformask("info", "run", "--whole")
    assert answer.status == 2
    assert "Unknown option: --whole." in answer.err
    assert "--tiled" not in answer.err


@pytest.mark.quick(3)
@pytest.mark.parametrize("tokens", [("--help",), ("--version",), *((verb, "--help") for verb in INSTALLED)])
def test_help_and_version_load_nothing_heavy(tokens):
    answer = fresh(*tokens)
    assert answer.stderr.strip() == "[]"
    assert answer.stdout


def test_a_share_may_be_a_percentage(conformask):
    record = conformask(
        "plan", "--confidence", "99.9%", "--guarantee", "pac", "--delta", "5 %", "--json"
    ).record
    assert (record["confidence"], record["delta"]) == (0.999, 0.05)
    assert "--confidence" in conformask("plan", "--confidence", "many%").err


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "conformask", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("words", [["plan"], ["plan", "--json"]])
def test_a_reader_that_has_ended_leaves_no_traceback(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "conformask", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "the program that read the output has ended" in done.stderr


def test_info_loads_no_torch(made):
    answer = fresh("info", made / "run", "--json")
    assert answer.stderr.strip() == "[]"
    assert json.loads(answer.stdout)["formula"].startswith("P(l1 <= ")


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("tokens", "keys"),
    [
        (("info", "run"), {"run", "sentence", "formula", "scorer", "calibration"}),
        (("check", "data"), {"n", "groups", "parts", "duplicates", "warnings", "mean_error"}),
        (("thresholds", "run"), {"choices", "loss", "confidence"}),
        (
            ("recalibrate", "run", "--threshold", "0.05"),
            {"sentence", "formula", "promise", "loss", "lam", "exact"},
        ),
        (("mask", "run", "data", "out"), {"out", "n", "mask_size", "sentence", "formula"}),
        (
            ("evaluate", "run", "data"),
            {"sentence", "formula", "card", "coverage", "mask_size", "ratio_to_oracle"},
        ),
    ],
)
def test_json_is_one_object_and_nothing_else(conformask, own, monkeypatch, tokens, keys):
    monkeypatch.chdir(own)
    answer = conformask(*tokens, "--json")
    assert answer.status == 0, answer.err
    assert keys <= set(answer.record)


def test_an_interrupt_is_130(conformask, monkeypatch, made, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("conformask.images.check.check_triplets", interrupted)
    monkeypatch.setattr("conformask.extras.train.fit.fit_scorer", interrupted)
    monkeypatch.setattr("conformask.masker.write.write_masks", interrupted)
    for words, said in (
        (("check", made / "data"), "stopped"),
        (("train", made / "data", tmp_path / "run"), "stopped; to resume, repeat the command with --resume"),
        (("mask", made / "run", made / "data", tmp_path / "masks"), "stopped; to resume, repeat the command"),
    ):
        answer = conformask(*words)
        assert (answer.status, answer.err.strip()) == (130, f"conformask: {said}")


def test_info_tells_the_loss_and_the_promise(conformask, own):
    said = " ".join(conformask("info", own / "run", "--research").out.split())
    for fact in (
        "trained for l1: Σ m e / n, ",
        " loss l1: Σ m e / n, with e = |y − ŷ|, ",
        " masks binary ",
        " promise marginal, confidence 0.8 ",
    ):
        assert fact in said
    conformask(
        "calibrate", own / "run", own / "data", "--over", "local", "--window", "5", "--threshold", "0.1"
    )
    said = " ".join(conformask("info", own / "run", "--research").out.split())
    assert " loss local(l1, 5 px): max {ē_j : m_j > 0}, with e = |y − ŷ|, ē_j the mean of e over" in said


def test_thresholds_tells_whether_anything_is_calibrated(conformask, own):
    (own / "run" / "calibration.json").unlink()
    assert (
        "Nothing is calibrated yet. Next: conformask calibrate" in conformask("thresholds", own / "run").out
    )


def test_calibrate_says_what_it_replaces(conformask, own, monkeypatch):
    monkeypatch.chdir(own)
    (old,) = re.findall(r"threshold +(\S+)", conformask("info", "run", "--research").out)
    lines = conformask(
        "calibrate", "run", "data", "--threshold", "0.1", "--confidence", "0.7"
    ).out.splitlines()
    assert (
        f"run was calibrated already (threshold {old}, confidence 0.8); this calibration has replaced that "
        "one. conformask recalibrate run changes threshold and confidence without images."
    ) in lines
    again = conformask("calibrate", "run", "data", "--threshold", "0.2", "--guarantee", "expected").out
    assert "run was calibrated already (threshold 0.1, confidence 0.7);" in again
    once_more = conformask("calibrate", "run", "data", "--threshold", "0.2", "--guarantee", "expected").out
    assert "run was calibrated already (threshold 0.2);" in once_more
    (own / "run" / "calibration.json").unlink()
    assert "already" not in conformask("calibrate", "run", "data", "--threshold", "0.1").out


def test_info_tells_of_an_evaluation_that_is_out_of_date(conformask, own, monkeypatch):
    monkeypatch.chdir(own)
    assert conformask("evaluate", "run", "data").status == 0
    assert "earlier promise" not in conformask("info", "run").out
    assert conformask("recalibrate", "run", "--threshold", "0.2").status == 0
    assert "earlier promise" in conformask("info", "run").out


@pytest.mark.thorough
def test_what_each_verb_tells_a_person(conformask, own, monkeypatch):
    monkeypatch.chdir(own)
    choices = conformask("thresholds", "run")
    assert "pass unmasked" in choices.out
    assert "Nothing is calibrated yet" not in choices.out
    recalibrated = conformask("recalibrate", "run", "--threshold", "q0.5")
    assert "on a grid" in recalibrated.out
    assert_sentence_first_and_formula_last(recalibrated.out)
    assert "No problems found" in conformask("check", "data", "--confidence", "0.8").out
    masked, evaluated = conformask("mask", "run", "data", "out"), conformask("evaluate", "run", "data")
    assert "% of their pixels are hidden" in masked.out
    assert "coverage" in evaluated.out
    assert "mask size" not in evaluated.out.replace("mask size and", "")
    for shown in (masked, evaluated, conformask("info", "run"), conformask("monitor", "run", "data")):
        assert_sentence_first_and_formula_last(shown.out)


def assert_sentence_first_and_formula_last(out):
    first, *_, last = out.splitlines()
    assert first.startswith("If this had been fixed beforehand: in at least ")
    assert last.startswith("P(l1 <= ")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words",
    [
        "thresholds run",
        "info run",
        "check data",
        "evaluate run data",
        "monitor run data",
        "release run data --share 0.1",
        "plan",
        "plan --n 9",
    ],
)
def test_tables_fit_the_terminal_and_break_no_word(conformask, own, monkeypatch, words):
    monkeypatch.chdir(own)
    lines = {}
    for width in (60, 80, 120, 1000):
        monkeypatch.setenv("COLUMNS", str(width))
        lines[width] = conformask(*words.split()).out.splitlines()
    sentences = {line for line in lines[1000] if "  " not in line}  # the terminal wraps these
    rows = {width: [line for line in shown if line not in sentences] for width, shown in lines.items()}
    for width in (60, 80, 120):
        assert max(map(len, rows[width])) <= width
        assert _words(rows[width]) == _words(rows[1000])
    if words == "thresholds run":
        assert len(rows[60]) == len(rows[1000])  # no bar continues in another line


def _words(lines):
    """The words in alphabetical order, without bars, whose length depends on the width."""
    return sorted(word for word in " ".join(lines).split() if not set(word) <= set("█▉▊▋▌▍▎▏"))


@pytest.mark.thorough
@pytest.mark.leaf("make")
def test_what_a_network_prints_is_no_part_of_the_json(tmp_path, monkeypatch):
    """Neither from Python nor from a library that prints by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatty.py").write_text(
        "import os\ndef f(x):\n    print('hello')\n    os.write(1, b'from C')\n    return x\n"
    )
    done = fresh("probe", "--predictor", "chatty:f", "--json")
    assert json.loads(done.stdout)["network"] == "chatty:f"
    assert "hello" in done.stderr
    assert "from C" in done.stderr


@pytest.mark.parametrize(
    ("tokens", "status", "error"),
    [
        (["info", "nowhere"], 1, "nowhere is not a run folder"),
        (["plan", "--confidence", "2"], 1, "confidence = 2: must be between 0 and 1, such as 0.9"),
        (["plan", "--n", "0"], 2, "--n 0: give at least 1 calibration image"),
        (["plan", "--nonsense"], 2, "Unknown option: --nonsense"),
    ],
)
def test_a_failure_is_json_too(conformask, tokens, status, error):
    answer = conformask(*tokens, "--json")
    assert answer.status == status
    assert answer.record.keys() == {"error"}
    assert answer.record["error"].startswith(error)
    assert error in " ".join(re.sub("[│╭─╮╰╯]", "", answer.err).split())


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt, 130), (ZeroDivisionError, None)])
def test_what_stops_a_command_is_json_too(capfd, monkeypatch, raised, status):
    def stopped(*_):
        raise raised

    monkeypatch.setattr("conformask.promises.promise.plan", stopped)
    with pytest.raises(SystemExit if status else raised) as stop:
        main(["plan", "--json"])
    assert getattr(stop.value, "code", None) == status
    assert json.loads(capfd.readouterr().out)["error"] in ("stopped", "ZeroDivisionError: ")


@pytest.mark.quick(6)
@pytest.mark.parametrize("verb", INSTALLED)
def test_help_fits_a_screen_and_the_rest_stands_under_help_all(conformask, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    brief, whole = (conformask(verb, flag).out for flag in ("--help", "--help-all"))
    assert len(brief.splitlines()) <= 40
    assert f"All options: conformask {verb} --help-all" in brief
    shown, every = (set(re.findall(r"│ [ *]*(--[\w-]+)", page)) for page in (brief, whole))
    assert shown <= every
    assert {*INSTALLED[verb].common} <= every
    options = build(INSTALLED)[verb].assemble_argument_collection().filter_by(show=True)
    assert every == {argument.name for argument in options if argument.name.startswith("--")}


def test_info_says_the_least_and_everything_for_research(conformask, own):
    assert conformask("evaluate", own / "run", own / "data").status == 0
    brief, whole = (conformask("info", own / "run", *more).out for more in ((), ("--research",)))
    assert len(brief.splitlines()) <= 8
    assert "lambda" not in brief
    for line in brief.splitlines():
        assert line in whole or line.split("  ")[0] in whole
    assert re.search("lambda +[0-9.]+", whole)


@pytest.mark.parametrize(
    ("listed", "made"),
    [(names.Guarantee, GUARANTEES), (names.Unit, UNITS), (names.Family, FAMILIES), (names.Scorer, HEADS)],
    ids=["guarantees", "units", "families", "scorers"],
)
def test_what_is_listed_is_what_there_is(listed, made):
    assert set(get_args(listed)) == set(made)


def test_distances_are_listed_with_what_bounds_them():
    assert set(names.DISTANCES) == {*DISTANCES, *MAPS}
    for name, known in names.DISTANCES.items():
        made = loss(name)
        assert (made.traits.upper_bound, made.traits.own_bounds) == (known.upper_bound, name in ("l1", "l2"))
        assert (made.error_map is not None) == known.is_map
