"""Methods section of a paper: a paragraph with the numbers, and facts that identify what was used."""

from conformask.records.evaluation import Evaluation
from conformask.report.promise_status import EXPLORATORY
from conformask.report.references import references
from conformask.report.words import figure, interval_text, network_label, plural, promise_of, share, tested


def methods_text(evaluation: Evaluation) -> str:
    """Return a paragraph for a methods section; numbers in brackets count the references."""
    proofs = ", ".join(str(number) for number in range(2, len(references(evaluation)) + 1))
    images, family = plural(evaluation.n_calibration, "image"), evaluation.family.replace("_", " ")
    between = "" if evaluation.over else " between masked output and masked reference"
    sentences = [
        f"{_outputs(evaluation)} were masked with conformask{_version(evaluation)} [1]: a mask assigns "
        f"each pixel a number between 0 (hidden) and 1 (trusted), computed from the input and the output of "
        f"the network by the scorer {evaluation.scorer} and the family {family}.",
        f"Masks were calibrated on {images}, separate from the training images, with the guarantee "
        f"{evaluation.guarantee} [{proofs}], which promises {evaluation.promise}; the loss is "
        f"{evaluation.loss_label}{between}.",
        *([EXPLORATORY.text] if evaluation.exploratory else []),
        _measured(evaluation),
        _hidden(evaluation),
    ]
    return " ".join(sentences)


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the facts that identify network, masker, images and software."""
    rows = [("Network", _network(evaluation)), ("Masker", evaluation.fingerprint or "–")]
    made = evaluation.made
    if made is None:
        return rows
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return [
        *rows,
        ("Test images", f"{evaluation.n_test:,}, SHA-256 of their pixels {made.images}"),
        ("Calibrated", made.calibrated),
        ("Versions", versions),
    ]


def _outputs(evaluation: Evaluation) -> str:
    if evaluation.network is None:
        return "Outputs of an image-to-image network"
    return f"Outputs of the network {network_label(evaluation.network)}"


def _version(evaluation: Evaluation) -> str:
    return "" if evaluation.made is None else f" {evaluation.made.versions['conformask']}"


def _network(evaluation: Evaluation) -> str:
    network = evaluation.network
    return "unknown" if network is None else f"{network.name} {network.fingerprint or ''}".rstrip()


def _measured(evaluation: Evaluation) -> str:
    promise = promise_of(evaluation)
    whom = f"On {tested(evaluation)}, separate from all of these,"
    if promise.statement.bounds_a_mean:
        low, high = map(figure, evaluation.mean_distance_interval)
        mean = figure(evaluation.mean_distance)
        return f"{whom} the mean loss was {mean} (bootstrap, 95\N{NO-BREAK SPACE}% interval {low} to {high})."
    interval = interval_text(evaluation.coverage_interval)
    return f"{whom} {share(evaluation.coverage)} were {promise.unit.kept} (Clopper-Pearson, {interval})."


def _hidden(evaluation: Evaluation) -> str:
    interval, oracle = interval_text(evaluation.mask_size_interval), evaluation.mask_size_oracle
    beside = "" if oracle is None else f"; the smallest masks that the reference allows hid {share(oracle)}"
    return f"Masks hid {share(evaluation.mask_size)} of an image on average (bootstrap, {interval}){beside}."
