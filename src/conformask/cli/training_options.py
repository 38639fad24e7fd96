"""Options of training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from conformask.cli.options import TRAINING, WHOLE_NUMBER

if TYPE_CHECKING:
    from conformask.training.fit import TrainingConfig


@dataclass(frozen=True)
class TrainingOptions:
    """How long to train, and how."""

    epochs: Annotated[
        int | None,
        WHOLE_NUMBER,
        Parameter(
            help="Number of passes over the images; 30 if neither --max-minutes nor --patience is given, "
            "more if there are few images."
        ),
    ] = None
    max_minutes: Annotated[
        float | None,
        Parameter(help="Time limit for training, in minutes; with --resume, including the time before."),
    ] = None
    patience: Annotated[
        int | None,
        WHOLE_NUMBER,
        Parameter(help="Stop when the selection loss has not improved for this many epochs."),
    ] = None
    batch_size: Annotated[int, WHOLE_NUMBER, Parameter(help="Images per step, on each device.")] = 16
    learning_rate: Annotated[
        float | None,
        Parameter(
            help="The largest learning rate, 5e-4 from random weights and 1e-2 from the packaged network; it "
            "decays as a cosine, or with --patience in steps."
        ),
    ] = None
    seed: Annotated[int, WHOLE_NUMBER, Parameter(help="Seed of the weights and of the order of images.")] = 0
    resume: Annotated[
        bool,
        Parameter(
            show_default=False, help="Resume a stopped training run, or train a finished one for longer."
        ),
    ] = False

    def config(self) -> "TrainingConfig":
        """Return the training settings."""
        from conformask.training.fit import TrainingConfig

        return TrainingConfig(**vars(self))


Training = Annotated[TrainingOptions, Parameter(name="*", group=TRAINING)]
DEFAULT_TRAINING = TrainingOptions()
