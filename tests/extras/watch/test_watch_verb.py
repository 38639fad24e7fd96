"""conformask monitor --state: a stream from one call to the next."""

from pathlib import Path

import pytest


@pytest.mark.thorough
def test_a_stream_from_one_call_to_the_next(conformask, own: Path) -> None:
    asked = ("monitor", own / "run", own / "data", "--state", own / "state.json")
    first = conformask(*asked, "--json").record
    again = conformask(*asked, "--json").record
    assert first["n_new"] == first["n_seen"] == again["n_seen"] > 100
    assert again["n_new"] == 0
    assert again["failure_evidence"] == first["failure_evidence"] >= 1
    text = conformask(*asked).out
    assert "failed" in text
    assert "so far, 0 new" in text
    assert (conformask(*asked, "--strict").status == 3) == (first["shifted"] or first["failing"])


def test_a_state_goes_with_its_calibration(conformask, own: Path) -> None:
    asked = ("monitor", own / "run", own / "data", "--state", own / "state.json")
    assert conformask(*asked).status == 0
    assert conformask("recalibrate", own / "run", "--confidence", "0.7").status == 0
    refused = conformask(*asked)
    assert refused.status == 1
    assert "start a new state after each calibration" in refused.err
