// The state of the page and its form in the address (after #), so that a link or the back button restores it.
//
// The state has the names of the parameters in the address, which must not change: people keep links.

/** What can be shown of an image, in the order of the buttons and of the keys 1 to 7. */
export const VIEWS = ["output", "overlay", "mask", "truth", "input", "error", "map"];

const SORTS = ["name", "largest", "smallest", "loss"];
const GALLERY_KEYS = ["search", "part", "beyond", "held", "sort"];
const IMAGE_KEYS = ["threshold", "confidence", "view", "swipe", "plane", "at", "contrast", "channels"];
const DEFAULTS = { view: "overlay", sort: "largest" };

const oneOf = (values, value, fallback) => (values.includes(value) ? value : fallback);

function parseNumbers(text, count) {
  const numbers = (text || "").split(",").map((part) => (part ? Number(part) : NaN));
  return numbers.length === count && numbers.every(Number.isFinite) ? numbers : null;
}

const parseNumber = (text) => parseNumbers(text, 1)?.[0] ?? null;

function parseColours(text) {
  const colours = (text || "").split(",");
  return colours.every((colour) => /^-?[0-9a-f]{6}$/.test(colour)) ? colours : null;
}

function parseSwipe(text) {
  const views = (text || "").split(",").filter((view) => VIEWS.includes(view));
  return views.length === 2 ? views : null;
}

// The text as it is where it has a stray %, as in a name that somebody typed.
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the state that an address describes; whatever in it has no meaning is ignored. */
export function stateFromHash(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const parameters = new URLSearchParams(query || "");
  const imagePath = path.match(/^\/image\/(.+)$/);
  return {
    name: imagePath ? decode(imagePath[1]) : null, // of the image; null in the gallery
    threshold: parseNumber(parameters.get("threshold")), // null = as calibrated
    confidence: parseNumber(parameters.get("confidence")), // null = as calibrated
    view: oneOf(VIEWS, parameters.get("view"), DEFAULTS.view),
    swipe: parseSwipe(parameters.get("swipe")), // [left view, right view], or null
    plane: parameters.get("plane"), // the name of the orientation that is large, of a volume
    at: parseNumbers(parameters.get("at"), 3), // the voxel of the crosshair: z, y, x
    contrast: parseNumbers(parameters.get("contrast"), 2), // level and width of the window
    channels: parseColours(parameters.get("channels")), // rrggbb for each, after a minus where it is off
    search: parameters.get("search") || "",
    part: parameters.get("part"), // of the split; null = the images that are measured
    beyond: parameters.has("beyond"), // only images beyond the threshold
    held: parameters.has("held"), // only images that are held back
    sort: oneOf(SORTS, parameters.get("sort"), DEFAULTS.sort),
  };
}

/** Return the address of a state, without the parameters that are at their defaults. */
export function hashFromState(state) {
  const keys = (state.name === null ? GALLERY_KEYS : IMAGE_KEYS).filter(
    (key) => (state[key] || state[key] === 0) && state[key] !== DEFAULTS[key],
  );
  // Commas need no escape, and lists are easier to read with them.
  const query = keys.map((key) => `${key}=${encodeURIComponent(state[key]).replaceAll("%2C", ",")}`).join("&");
  const path = state.name === null ? "/" : `/image/${encodeURIComponent(state.name)}`;
  return `#${path}${query ? `?${query}` : ""}`;
}
