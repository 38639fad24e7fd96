// What the page asks of the server. A refusal becomes an Error with the library's own message.

async function answer(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error || `the viewer answered ${response.status}`);
}

const query = (values) =>
  new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));
const json = async (path, values) => (await answer(values ? `${path}?${query(values)}` : path)).json();

export const address = (name, what) => `/api/images/${encodeURIComponent(name)}${what ? `/${what}` : ""}`;
export const session = () => json("/api/session");
export const gallery = () => json("/api/images");
export const progress = () => json("/api/progress");
export const image = (name) => json(address(name));
export const promise = (image, setting) => json("/api/promise", { image, ...setting });
export const distance = (image, setting) => json("/api/distance", { image, ...setting });
export const values = (name, [z, y, x]) => json(address(name, "values"), { x, y, z });
export const upload = async (form) => (await answer("/api/uploads", { method: "POST", body: form })).json();

// A plane is { axis, at } and perhaps a part of it: { top, bottom, left, right, step }.
export async function score(name, plane) {
  return new Float32Array(await (await answer(`${address(name, "score")}?${query(plane)}`)).arrayBuffer());
}

export async function picture(name, what, plane) {
  const blob = await (await answer(`${address(name, `${what}.png`)}?${query(plane)}`)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}
