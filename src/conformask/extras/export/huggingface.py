"""A masker as a model repository of the Hugging Face Hub: what load() reads, and a model card."""

from pathlib import Path

from conformask.errors import ConformaskError
from conformask.extensions import required
from conformask.extras.export.folders import (
    NOTHING,
    TAGS,
    Credits,
    ExportedFolder,
    ExportFormat,
    summary_of,
    whole_folder,
)
from conformask.masker.card import card_text
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.records.record import LOCK

README = "README.md"
CODE = """
It uses code of its author that is not in this repository; pass that code to `cm.load` as arguments.
"""


def export_huggingface(masker: Masker, folder: str | Path, *, credits: Credits = NOTHING) -> ExportedFolder:
    """Write a masker as a folder for the Hugging Face Hub: what `load` reads, and README.md, a model card.

    It contains no images, but the names of the calibration images (curves-*.npz).

    Args:
        masker: from calibrate() or load().
        folder: a new one, or an empty one; `hf upload NAME FOLDER` uploads it.
        credits: authors, license and citation; missing ones are left out of the card.

    Raises:
        MissingFileError: huggingface_hub is not installed.
        OutputError: the folder holds something already, or cannot be written.
    """
    required("huggingface_hub", "this export", "hub")
    with whole_folder(Path(folder)) as target:
        masker.save(target)
        (target / LOCK).unlink(missing_ok=True)
        text = f"{_head(masker, credits)}\n{_body(masker, credits, needs_code=not _loads(target))}"
        (target / README).write_text(text, encoding="utf-8")
    return ExportedFolder(Path(folder), credits.missing)


def _loads(folder: Path) -> bool:
    """Return whether the folder alone is enough to load the masker."""
    try:
        load(folder)
    except ConformaskError:
        return False
    return True


def _head(masker: Masker, credits: Credits) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=None if credits.license is None else credits.license.lower(),  # as the Hub spells them
        library_name="conformask",
        pipeline_tag="image-to-image",
        tags=list(TAGS),
        metrics=[masker.card.loss.name],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _body(masker: Masker, credits: Credits, *, needs_code: bool) -> str:
    authors = f"\nAuthors: {', '.join(credits.authors)}.\n" if credits.authors else ""
    cite = f"\nPlease cite {credits.cite}\n" if credits.cite else ""
    return f"""{card_text(masker.card, masker.scorer.name, masker.fingerprint, masker.comparison)}
## Use

```python
from huggingface_hub import snapshot_download
import conformask as cm

masker = cm.load(snapshot_download("OWNER/NAME"))
mask = masker(x, y_hat)  # 1 = trusted, 0 = hidden
```
{CODE if needs_code else ""}{authors}{cite}"""


HUGGINGFACE = ExportFormat(
    lambda masker, folder, options: summary_of(export_huggingface(masker, folder, credits=options.credits)),
    takes_credits=True,
)
