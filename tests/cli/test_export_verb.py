"""conformask export, on the calibrated run."""

import numpy as np
import onnxruntime

from conformask.data.triplets import Triplets
from conformask.masker.load import load


def test_the_file_gives_the_masks_of_the_run(conformask, made, tmp_path) -> None:
    out = tmp_path / "new" / "masker.onnx"
    answer = conformask("export", made / "run", out, "--json")
    assert answer.status == 0, answer.err
    record = answer.record
    masker = load(made / "run")
    assert record["promise"] == masker.promise
    assert record["lambda"] == masker.rule.lam
    assert record["sizes"] == [[32, 32], [32, 64]]
    assert max(record["difference"].values()) <= record["tolerance"]
    batch = next(Triplets.from_folder(made / "data").part("test").batches(4))
    wanted = masker.masks(batch.x, batch.y_hat).numpy()
    lam = np.full(len(batch.names), record["lambda"])
    given = {"x": batch.x.numpy(), "y_hat": batch.y_hat.numpy(), "lam": lam}
    mask, _ = onnxruntime.InferenceSession(out).run(None, given)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)), atol=1e-5)
    assert (np.abs(mask - wanted) > 1e-3).mean() < 1e-3


def test_what_is_refused(conformask, own) -> None:
    for tokens, words in (
        (["export", own / "run", own / "masker.pt"], "ends with .onnx"),
        (["export", own / "data", own / "masker.onnx"], "calibrate it first"),
    ):
        answer = conformask(*tokens)
        assert answer.status == 1
        assert words in answer.err
        assert not tokens[2].exists()
