// Requests to the server. A refused request becomes an Error with the server's message.

const PROGRESS_INTERVAL = 400; // milliseconds between two requests for progress

async function request(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  const body = await response.json().catch(() => ({})); // not every error page is JSON
  throw new Error(body.error || `the viewer answered ${response.status}`);
}

// Parameters that are null or undefined are left out, so that the server's defaults apply.
const toQuery = (parameters) =>
  new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined));
const getJson = async (path, parameters) =>
  (await request(parameters ? `${path}?${toQuery(parameters)}` : path)).json();

/** Return the path of an image on the server, or of one of its resources, such as "thumbnail.jpg". */
export const imagePath = (name, resource) =>
  `/api/images/${encodeURIComponent(name)}${resource ? `/${resource}` : ""}`;

/** Fetch what stays the same: the calibrated promise, the limits of the sliders and the family of masks. */
export const fetchSession = () => getJson("/api/session");

/** Fetch the entries of the gallery, the promise, and how the images agree with it. */
export const fetchGallery = () => getJson("/api/images");

/** Fetch how many tiles of an image are scored, as { name, done, total }, or null if none is being scored. */
export const fetchProgress = () => getJson("/api/progress");

/** Fetch what is needed to draw an image: its size, orientations, value ranges and colours. */
export const fetchImage = (name) => getJson(imagePath(name));

/** Fetch the promise at a setting { threshold, confidence }, and the level and size of the mask of an image. */
export const fetchPromise = (image, setting) => getJson("/api/promise", { image, ...setting });

/** Fetch the loss of an image at a setting { threshold, confidence }. */
export const fetchLoss = (image, setting) => getJson("/api/loss", { image, ...setting });

/** Fetch the values of every picture of an image, its score and what is known of its object, at a voxel. */
export const fetchValues = (name, [z, y, x]) => getJson(imagePath(name, "values"), { x, y, z });

/** Upload a pair of files, and return the name under which the image is shown. */
export const uploadPair = async (formData) =>
  (await request("/api/uploads", { method: "POST", body: formData })).json();

// A plane is { axis, at }, its axis and its index along it, and perhaps a part: { top, bottom, left, right, step },
// where step x step pixels are reduced to one.

/** Fetch "score" or "labels" of a plane, channel by channel, row by row. */
export async function fetchPlane(name, kind, plane) {
  const response = await request(`${imagePath(name, kind)}?${toQuery(plane)}`);
  return new Float32Array(await response.arrayBuffer()); // little-endian, as is every platform with a browser
}

/** Fetch a picture of a plane, with the pixel values exactly as the server sent them. */
export async function fetchPicture(name, picture, plane) {
  const response = await request(`${imagePath(name, `${picture}.png`)}?${toQuery(plane)}`);
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
}

/** Wait for a request, and meanwhile report the progress of scoring at regular intervals. */
export function withProgress(requestPromise, onProgress) {
  let pending = true;
  const timer = setInterval(async () => {
    const progress = await fetchProgress().catch(() => null);
    if (pending) onProgress(progress); // an answer that comes after the end would bring the progress bar back
  }, PROGRESS_INTERVAL);
  return requestPromise.finally(() => {
    pending = false;
    clearInterval(timer);
  });
}
