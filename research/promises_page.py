"""Writes research/results/promises-issued.md from research/results/promises_issued.json."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "research" / "results" / "promises_issued.json"
PAGE = ROOT / "research" / "results" / "promises-issued.md"
TEXT = """# Promises, measured where they are issued

Every promise that conformask gives, on simulated images whose scores miss some errors: groups of one to four
images, harder the larger they are, two kinds of images, errors with heavy tails, and a tenth of groups on
which no open mask keeps the threshold. For each promise {sets} calibration sets are drawn, and {new} new
images for each. The masks are judged by numpy alone, by what the sentence of the promise says. Calibration
sets that only closed masks keep are issued like others, so that nothing selects lucky sets; *hide everything*
counts them: thresholds are hard here on purpose, and closed masks keep every promise. Written by
`research/promises_page.py` from a whole run of `tests/campaigns/promises_issued.py`; the tests run a sample
of it.

## On average over calibration sets

Promises of at least {confidence} (share within the threshold), or of a mean loss of at most the threshold.
*z* is by how many standard errors the measured value is better than promised: below −3 it would not be kept.

| promise | promised | measured | z | hide everything | refused |
|---|---|---|---|---|---|
{marginal}

## For all but a share of calibration sets

Promises for this very calibration, which may be broken in a share of at most {delta} of calibration sets.

| promise | may break | broken | hide everything | refused |
|---|---|---|---|---|
{sure}
"""


def row(name: str, found: dict[str, Any]) -> str:
    """A line of one of the tables."""
    counts = [str(found["hides"]), str(found["refused"])]
    if "broken" in found:
        return "| " + " | ".join([name, f"{found['promised']:g}", f"{found['broken']:.3f}", *counts]) + " |"
    sign = "≥" if found["promised"] >= 0.5 else "≤"  # thresholds of means are small
    digits = 3 if sign == "≥" else 4
    numbers = [f"{sign} {found['promised']:g}", f"{found['measured']:.{digits}f}", f"{found['z']:+.1f}"]
    return "| " + " | ".join([name, *numbers, *counts]) + " |"


def main() -> None:
    record = json.loads(RESULT.read_text(encoding="utf-8"))
    found = dict(sorted(record["combinations"].items(), key=lambda pair: pair[0].count(",")))
    counts = {each["sets"] + each["refused"] for each in found.values()}
    assert len(counts) == 1, "a whole run has as many sets of each"
    rows = {kind: [row(n, f) for n, f in found.items() if ("broken" in f) == kind] for kind in (False, True)}
    text = TEXT.format(
        sets=counts.pop(),
        new=record["new"],
        confidence=record["confidence"],
        delta=record["delta"],
        marginal="\n".join(rows[False]),
        sure="\n".join(rows[True]),
    )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
