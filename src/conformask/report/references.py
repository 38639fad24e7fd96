"""References to cite: the paper of the masks, and those that prove a promise."""

from collections.abc import Sequence

from conformask.conformal.populations import EachCategory
from conformask.records.evaluation import Evaluation
from conformask.report.words import promise_of

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
OF_GUARANTEE = {
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
        "Papadopoulos, Gammerman, Vovk: Normalized nonconformity measures for regression conformal "
        "prediction, 2008",
    ),
}
"""References by the name of the guarantee."""


def references(evaluation: Evaluation) -> Sequence[str]:
    """Return the reference for the masks, then those that prove the promise."""
    in_each = isinstance(promise_of(evaluation).population, EachCategory)
    proofs = [*OF_GUARANTEE[evaluation.guarantee], *([MONDRIAN] if in_each else [])]
    return tuple(dict.fromkeys([MASKS, *proofs]))
