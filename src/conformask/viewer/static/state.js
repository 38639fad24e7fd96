// What the page shows, kept in its address, so that a link or the back button restores it.

export const VIEWS = ["output", "overlay", "mask", "truth", "input", "error"];
const SORTS = ["name", "largest", "smallest", "loss"];
const KEPT = ["threshold", "confidence", "view", "swipe", "plane", "at", "contrast", "channels"];

const number = (text) => numbers(text, 1)?.[0] ?? null;
const among = (values, value, otherwise) => (values.includes(value) ? value : otherwise);
const numbers = (text, count) => {
  const found = (text || "").split(",").map((part) => (part ? Number(part) : NaN));
  return found.length === count && found.every(Number.isFinite) ? found : null;
};
const colours = (text) => {
  const found = (text || "").split(",");
  return found.every((part) => /^-?[0-9a-f]{6}$/.test(part)) ? found : null;
};

export function read(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const given = new URLSearchParams(query || "");
  const match = path.match(/^\/image\/(.+)$/);
  const swipe = (given.get("swipe") || "").split(",").filter((view) => VIEWS.includes(view));
  return {
    name: match ? decoded(match[1]) : null,
    threshold: number(given.get("threshold")),
    confidence: number(given.get("confidence")),
    view: among(VIEWS, given.get("view"), "overlay"),
    swipe: swipe.length === 2 ? swipe : null,
    plane: given.get("plane"), // the name of the large view of a volume
    at: numbers(given.get("at"), 3), // z, y, x
    contrast: numbers(given.get("contrast"), 2), // level, width
    channels: colours(given.get("channels")), // rrggbb of each, after a minus where it is off
    search: given.get("search") || "",
    beyond: given.has("beyond"), // only images beyond the threshold
    sort: among(SORTS, given.get("sort"), "name"),
  };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function write(state) {
  const kept = state.name === null ? ["search", "beyond", "sort"] : KEPT;
  const usual = { view: "overlay", sort: "name" };
  const said = kept.filter((key) => (state[key] || state[key] === 0) && state[key] !== usual[key]);
  const query = said.map((key) => `${key}=${encodeURIComponent(state[key]).replaceAll("%2C", ",")}`).join("&");
  const path = state.name === null ? "/" : `/image/${encodeURIComponent(state.name)}`;
  return `#${path}${query ? `?${query}` : ""}`;
}
