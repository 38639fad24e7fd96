"""Masks as a web service: `MASKER=RUN uvicorn service:app`, started in the folder of this file."""

import json
import logging
import os
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import torch
from fastapi import FastAPI, HTTPException, Response, UploadFile

import conformask as cm
from conformask.arrays import best_device
from conformask.images.read import read_image, write_image

masker = cm.load(os.environ.get("MASKER", "masker"))
card, one_at_a_time, log = masker.card, Lock(), logging.getLogger("conformask")
app = FastAPI(title="Masks with a promise")


@app.get("/promise")
async def promise() -> dict[str, object]:
    """What holds for masks of this service, and which masker makes them."""
    facts = {name: getattr(card, name) for name in ("threshold", "calibrated", "sizes", "network")}
    return {"sentence": masker.sentence, "masker": masker.fingerprint, "promise": card.promise, **facts}


@app.post("/mask")
def mask(x: UploadFile, y_hat: UploadFile) -> Response:
    """The mask as PNG of 8 bits, 255 = trusted."""
    recorded = warnings.catch_warnings(record=True, action="always", category=cm.ConformaskWarning)
    with TemporaryDirectory() as folder, one_at_a_time, recorded as caught:
        try:
            images = [image(role, file, Path(folder)) for role, file in (("x", x), ("y_hat", y_hat))]
            if reason := card.not_covered(tuple(images[1].shape[2:])):
                raise cm.ConformaskError(reason)
            trusted = masker.masks(*images)[0].cpu().numpy()
            write_image(Path(folder, "mask.png"), trusted, round_down=True)
        except cm.ConformaskError as error:
            raise HTTPException(422, str(error).replace(f"{folder}{os.sep}", "")) from error
        content = Path(folder, "mask.png").read_bytes()
    cautions = [str(each.message) for each in caught if issubclass(each.category, cm.ConformaskWarning)]
    for caution in cautions:
        log.warning("%r: %s", y_hat.filename, caution)
    facts = {"hidden": f"{1 - trusted.mean():.4f}", "masker": masker.fingerprint}
    texts = {"sentence": json.dumps(masker.sentence), "warnings": json.dumps(cautions)}  # headers hold ASCII
    return Response(content, media_type="image/png", headers=facts | texts)


def image(role: str, file: UploadFile, folder: Path) -> torch.Tensor:
    path = folder / f"{role}{Path(file.filename or '').suffix}"
    path.write_bytes(file.file.read())
    return torch.from_numpy(read_image(path, card.reading.of(role)))[None].to(best_device())
