// How far the server has scored an image by tiles, asked until the work that waits for it is done.

import * as api from "./api.js";

const OFTEN = 400; // milliseconds

// say: takes { name, done, total }, or null while no image is scored by tiles.
export function followed(work, say) {
  const timer = setInterval(async () => {
    const progress = await api.progress().catch(() => null);
    if (open) say(progress);
  }, OFTEN);
  let open = true;
  return work.finally(() => {
    open = false;
    clearInterval(timer);
  });
}

export const tiles = ({ done, total }) => `Scored ${done} of ${total} tiles`;
