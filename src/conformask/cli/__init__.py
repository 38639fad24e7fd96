"""The command line: one file a verb; each parses, calls one library function, and prints."""

import sys

from cyclopts import App, CycloptsError

from conformask.errors import ConformaskError

VERBS = {
    "demo": "The whole story on packaged photographs, in minutes.",
    "predictor": "Train a U-Net predictor, where you have none.",
    "triplets": "True images -> x, y_hat and y.",
    "check": "Look at triplets before hours of work.",
    "train": "Fit a scorer to triplets.",
    "calibrate": "Find the lambda that keeps a promise, or choose a threshold.",
    "mask": "Masks for new images.",
    "evaluate": "Coverage and mask sizes on test images, with a report.",
    "info": "What a run folder holds and promises.",
}


def build() -> App:
    """The application; the verbs' modules are imported when they are called."""
    app = App(
        name="conformask",
        help="Masks with a promise for image-to-image networks.",
        version_flags=["--version"],
    )
    for verb, text in VERBS.items():
        app.command(f"conformask.cli.{verb}:{verb}", name=verb, help=text, sort_key=list(VERBS).index(verb))
    return app


def main(tokens: list[str] | None = None) -> None:
    """Run the command line; exits with 0 done, 1 a conformask error, 2 bad usage, 130 stopped."""
    try:
        build()(tokens, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        sys.exit(2)
    except ConformaskError as error:
        print(f"conformask: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("conformask: stopped; a training goes on with --resume", file=sys.stderr)
        sys.exit(130)
