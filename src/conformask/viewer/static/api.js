// What the page asks of the server. A refusal becomes an Error with the library's own message.

async function answer(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error || `the viewer answered ${response.status}`);
}

const query = (values) =>
  new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));

export const address = (name, what) => `/api/images/${encodeURIComponent(name)}${what ? `/${what}` : ""}`;
export const session = async () => (await answer("/api/session")).json();
export const gallery = async () => (await answer("/api/images")).json();
export const image = async (name) => (await answer(address(name))).json();
export const promise = async (image, setting) =>
  (await answer(`/api/promise?${query({ image, ...setting })}`)).json();
export const distance = async (image, setting) =>
  (await answer(`/api/distance?${query({ image, ...setting })}`)).json();
export const upload = async (form) => (await answer("/api/uploads", { method: "POST", body: form })).json();

export async function score(name) {
  return new Float32Array(await (await answer(address(name, "score"))).arrayBuffer());
}

export async function picture(name, what) {
  const blob = await (await answer(address(name, `${what}.png`))).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}
