// Where the pixels of an image (z, y, x) lie in its views; rows and columns are those on the screen.

const shown = ({ axis, backwards }, size, at) => (backwards ? size[axis] - 1 - at : at);

export const sidesOf = (view, size) => [size[view.down.axis], size[view.right.axis]];

// How wide and high a pixel is, the smallest step being 1.
export function cellOf(view, steps) {
  const least = Math.min(...steps);
  return [steps[view.right.axis] / least, steps[view.down.axis] / least];
}

export const pixelOf = (view, size, point) =>
  [view.down, view.right].map((along) => shown(along, size, point[along.axis]));

// The pixel in a row and column of the plane that a point lies in.
export function pointOf(view, size, point, [row, column]) {
  const found = [...point];
  found[view.down.axis] = shown(view.down, size, row);
  found[view.right.axis] = shown(view.right, size, column);
  return found;
}
