"""Plan of the rows: their stages, and the stages on which each depends."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from conformask.losses import loss
from conformask.paper.settings import (
    CONFIDENCE,
    METHODS,
    QUANTILE,
    SEED,
    Method,
    PaperPreset,
    TableRow,
)
from conformask.paper.stages import Stage, unique
from conformask.scorers.heads import head
from conformask.storage.as_json import Json

FREE = "l1"
"""Distance of the selection record of Quantile, which is trained for no distance."""
COSTS: Mapping[str, float] = {"ssim": 40.0, "lpips": 100.0}
"""Seconds of measuring with a distance, if nothing was measured yet."""
TRAINING = 60.0
"""Seconds of training a network, if none was trained yet."""


@dataclass(frozen=True)
class RowPlan:
    """The stages of a row."""

    row: TableRow
    images: Stage
    predictor: Stage
    triplets: Stage
    scorers: Mapping[str, Stage]
    opt: Stage
    calibrations: Mapping[str, Stage]
    evaluations: Mapping[str, Stage]

    def goals(self) -> tuple[Stage, ...]:
        """Return the stages whose results go into the table and the figures."""
        return (self.opt, *self.evaluations.values())

    def stages(self) -> list[Stage]:
        """Return all stages of the row, in an order in which they can be run."""
        return unique(self.goals())


def plan_row(row: TableRow, preset: PaperPreset, images: Stage) -> RowPlan:
    """Return the stages of a row on these images; rows with the same network share its stages."""
    network = f"{row.task}-{row.data}-{row.network}"
    row_settings: dict[str, Json] = {"task": row.task, "data": row.data, "network": row.network}
    predictor = Stage(
        "predictor",
        network,
        {**row_settings, "size": preset.size, "seed": SEED, **asdict(preset.predictor)},
        (images,),
        TRAINING,
    )
    triplets = Stage("triplets", network, row_settings, (predictor,))
    scorers = {name: _scorer(method, row, preset, network, triplets) for name, method in METHODS.items()}
    cost = COSTS.get(row.distance, 5.0)
    measure_settings: dict[str, Json] = {"distance": row.distance, "data": row.data}
    opt = Stage(
        "opt",
        f"{network}-{row.distance}",
        {**measure_settings, "quantile": QUANTILE, "images": preset.opt_images},
        (triplets,),
        2 * cost,
    )
    calibration_settings = {
        **measure_settings,
        "confidence": CONFIDENCE,
        "quantile": QUANTILE,
        "points": points(row, preset),
    }
    calibrations = {
        method: Stage(
            "calibration",
            f"{network}-{row.distance}-{method}",
            {**calibration_settings, "family": METHODS[method].family},
            (scorer,),
            cost,
        )
        for method, scorer in scorers.items()
    }
    evaluation_settings = {**measure_settings, "resplits": preset.resplits, "seed": SEED}
    evaluations = {
        method: Stage(
            "evaluation", f"{network}-{row.distance}-{method}", evaluation_settings, (stage, opt), cost
        )
        for method, stage in calibrations.items()
    }
    return RowPlan(row, images, predictor, triplets, scorers, opt, calibrations, evaluations)


def _scorer(method: Method, row: TableRow, preset: PaperPreset, network: str, triplets: Stage) -> Stage:
    any_distance = method.scorer == "quantile"
    scorer = head(method.scorer, loss(row.distance)).name
    distance = FREE if any_distance else row.distance
    settings: dict[str, Json] = {
        "scorer": scorer, "distance": distance, "per_channel": True, "seed": SEED, "data": row.data,
        "points": None if any_distance else points(row, preset), **asdict(preset.scorer),
    }  # fmt: skip
    name = f"{network}-{distance}-{scorer}"
    if method.own_network:
        name, settings = f"{name}-own", {**settings, "network": "own"}
    expected = TRAINING + COSTS.get(distance, 0.0) / 3
    return Stage("scorer", name, settings, (triplets,), expected)


def points(row: TableRow, preset: PaperPreset) -> int | None:
    """Return the grid points of curves that are measured mask by mask; None for the default of lp."""
    return {"ssim": preset.ssim_points, "lpips": preset.lpips_points}.get(row.distance)
