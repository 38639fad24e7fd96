// The promise about an image or a gallery, and the words for whether an image keeps it.

import { createElement } from "./dom.js";

/** The words for an image whose loss is within the threshold. */
export const WITHIN_THRESHOLD = "✓ within the threshold";

/** The words for an image whose loss is above the threshold. */
export const BEYOND_THRESHOLD = "✗ beyond the threshold";

const paragraph = (className, textContent = "") => createElement("p", { className, textContent });

/** Whether an image is released, in words. */
export const releaseText = (isReleased) => (isReleased ? "released" : "held back");

function formalParagraph(formula, explanation = "") {
  const formalPromise = paragraph("formal-promise");
  formalPromise.append(createElement("code", { textContent: formula }), explanation);
  return formalPromise;
}

/**
 * Show a promise, the measurement of it and what is promised of a release, in the words of the server, as the content
 * of an element. The last two may be null.
 */
export function renderPromise(element, promise, measurement, release) {
  const { name, title, text } = promise.status;
  const children = [paragraph(`promise-status ${name}`, title)];
  if (promise.sentence) children.push(paragraph("sentence", promise.sentence));
  children.push(paragraph("explanation", text));
  // Where the measurement contradicts the promise, it is the explanation already.
  if (measurement !== null && measurement !== text) children.push(paragraph("measurement", measurement));
  if (release) children.push(paragraph("release", release.sentence));
  if (promise.useless) children.push(paragraph("score-doubt", promise.useless));
  if (promise.score) children.push(paragraph("score", promise.score));
  if (promise.about_masks) children.push(paragraph("explanation", promise.about_masks));
  if (release?.formula) children.push(formalParagraph(release.formula));
  if (promise.formula) children.push(formalParagraph(promise.formula, ` Loss: ${promise.loss}.`));
  element.replaceChildren(...children);
}
