"""Methods section of a paper: a paragraph with the numbers, references, and facts on what was used."""

from collections.abc import Sequence

from conformask.conformal.populations import EachCategory
from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Evaluation
from conformask.records.sentence import worst_text
from conformask.wording.numbers import figure, interval_text, plural, share
from conformask.wording.promises import EXPLORATORY_TEXT, network_label

MASKS = (
    "Kutiel, Cohen, Elad, Freedman: What's behind the mask: estimating uncertainty in image-to-image "
    "problems, 2022, arXiv:2211.15211"
)
SPLIT = (
    "Papadopoulos, Proedrou, Vovk, Gammerman: Inductive confidence machines for regression, ECML 2002",
    "Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference for regression, "
    "JASA 2018",
)
CONDITIONAL = "Vovk: Conditional validity of inductive conformal predictors, ACML 2012, arXiv:1209.2673"
RISK_CONTROL = (
    "Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal risk control, ICLR 2024, arXiv:2208.02814"
)
RISK_BOUND = (
    "Bates, Angelopoulos, Lei, Malik, Jordan: Distribution-free, risk-controlling prediction sets, "
    "J. ACM 2021, arXiv:2101.02703"
)
BETTING = (
    "Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, JRSS B 2024, "
    "arXiv:2010.09686"
)
MONDRIAN = "Vovk, Lindsay, Nouretdinov, Gammerman: Mondrian confidence machine, technical report, 2003"
GUARANTEE_REFERENCES = {
    "marginal": SPLIT,
    "pac": (CONDITIONAL,),
    "ltt": ("Angelopoulos, Bates, Candès, Jordan, Lei: Learn then test, 2021, arXiv:2110.01052",),
    "simultaneous": (
        CONDITIONAL,
        "Moscovich, Nadler: Fast calculation of boundary crossing probabilities for Poisson processes, 2017",
    ),
    "expected": (RISK_CONTROL,),
    "conditional_mean": (
        RISK_CONTROL,
        "Rockafellar, Uryasev: Optimization of conditional value-at-risk, 2000",
    ),
    "rcps": (RISK_BOUND, BETTING),
    "rcps_hb": (RISK_BOUND,),
    "groups": (
        "Lee, Barber, Willett: Distribution-free inference with hierarchical data, 2023, arXiv:2306.06342",
    ),
    "categories": (MONDRIAN,),
    "weighted": (
        "Tibshirani, Barber, Candès, Ramdas: Conformal prediction under covariate shift, NeurIPS 2019, "
        "arXiv:1904.06019",
    ),
    "adaptive": (
        "Gibbs, Cherian, Candès: Conformal prediction with conditional guarantees, Journal of the Royal "
        "Statistical Society B, 2025, arXiv:2305.12616",
    ),
}
"""References by the name of the guarantee."""


def references(evaluation: Evaluation) -> Sequence[str]:
    """Return the reference for the masks, then those that prove the promise."""
    by_category = isinstance(evaluation.card.promise.resolve().population, EachCategory)
    proofs = [*GUARANTEE_REFERENCES[evaluation.card.promise.guarantee], *([MONDRIAN] if by_category else [])]
    return tuple(dict.fromkeys([MASKS, *proofs]))


def methods_text(evaluation: Evaluation) -> str:
    """Return a paragraph for a methods section; numbers in brackets count the references."""
    proofs = ", ".join(str(number) for number in range(2, len(references(evaluation)) + 1))
    card = evaluation.card
    images = plural(card.n_calibration, "image")
    operands = "" if card.loss.over else " between masked output and masked reference"
    sentences = [
        f"{_outputs(evaluation)} were masked with conformask{_version(evaluation)} [1]: a mask "
        f"{_values(card)}, computed from the input and the output of the network by the scorer "
        f"{evaluation.scorer}.",
        f"Masks were calibrated on {images}, separate from the training images, with the guarantee "
        f"{card.promise.guarantee} [{proofs}]. {card.sentence} As a formula: {card.formula}; the loss is "
        f"{card.loss.label}{operands}.",
        *([EXPLORATORY_TEXT] if card.exploratory else []),
        _measurement_sentence(evaluation),
        _size_sentence(evaluation),
    ]
    return " ".join(sentences)


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the facts that identify network, masker, images and software."""
    rows = [("Network", _network(evaluation)), ("Masker", evaluation.fingerprint or "–")]
    provenance = evaluation.made
    if provenance is None:
        return rows
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    return [
        *rows,
        ("Test images", f"{evaluation.n_test:,}, SHA-256 of their pixels {provenance.images}"),
        ("Calibrated", provenance.calibrated),
        ("Versions", versions),
    ]


def _outputs(evaluation: Evaluation) -> str:
    if evaluation.network is None:
        return "Outputs of an image-to-image network"
    return f"Outputs of the network {network_label(evaluation.network)}"


def _values(card: CalibrationCard) -> str:
    level = ", after a level predicted for each image has divided the score" * (card.level == "image")
    if not card.is_grey:
        parts = "" if card.patches is None else f", in {card.parts}"
        return f"shows a pixel (1) or hides it (0){parts}{level}"
    family = f"by the family {card.family_name}{level}"
    return f"assigns each pixel a number between 0 (hidden) and 1 (shown), {family}"


def _version(evaluation: Evaluation) -> str:
    return "" if evaluation.made is None else f" {evaluation.made.versions['conformask']}"


def _network(evaluation: Evaluation) -> str:
    network = evaluation.network
    return "unknown" if network is None else f"{network.name} {network.fingerprint or ''}".rstrip()


def _measurement_sentence(evaluation: Evaluation) -> str:
    promise = evaluation.card.promise.resolve()
    start = f"On {evaluation.units_text}, separate from all of these,"
    if promise.statement.bounds_a_mean:
        low, high = map(figure, evaluation.mean_loss_interval)
        mean = figure(evaluation.mean_loss)
        return (
            f"{start} the mean loss was {mean} (bootstrap, 95\N{NO-BREAK SPACE}% interval {low} to {high})"
            f"{worst_text(evaluation.worst, evaluation.card)}."
        )
    interval, met = interval_text(evaluation.coverage_interval), share(evaluation.coverage)
    if promise.unit.is_group or not promise.by_group:  # otherwise the coverage is not a share of a count
        counted = evaluation.n_units
        met = f"{evaluation.coverage * counted:.0f} of {counted} ({met})"
    within = evaluation.card.promise.named(f"within the threshold{promise.unit.judged}")
    worst = worst_text(evaluation.worst)
    return f"{start} {met} were {within} (Clopper-Pearson, {interval}){worst}."


def _size_sentence(evaluation: Evaluation) -> str:
    interval, oracle = interval_text(evaluation.mask_size_interval), evaluation.mask_size_oracle
    oracle_clause = (
        "" if oracle is None else f"; the smallest masks that the reference allows hid {share(oracle)}"
    )
    whole = evaluation.card.loss.whole
    average = f"{share(evaluation.mask_size)} of {whole} on average (bootstrap, {interval})"
    return f"Masks hid {average}{oracle_clause}."
