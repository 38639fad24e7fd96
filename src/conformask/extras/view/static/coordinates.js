// Coordinates of an image and of the planes in which it is shown.
//
// A voxel is [z, y, x], an index into the image's size (D, H, W); an image with two axes has D = 1. A pixel is
// [row, column] of a plane as it is shown. An orientation says how planes lie in the image: they are perpendicular to
// `axis`; the axes `down` and `right` run down and to the right on the screen, from the last index if `backwards`.

// Reversing is its own inverse: the same function leads from the image to the screen and back.
const reversedIndex = ({ axis, backwards }, size, index) => (backwards ? size[axis] - 1 - index : index);

/** Return the numbers of rows and columns of the planes of an orientation. */
export const planeShape = (orientation, size) => [size[orientation.down.axis], size[orientation.right.axis]];

/** Return the width and height of a pixel, in units of the smallest spacing of the image along any axis. */
export function pixelSize(orientation, spacing) {
  const smallest = Math.min(...spacing);
  return [spacing[orientation.right.axis] / smallest, spacing[orientation.down.axis] / smallest];
}

/** Return the pixel [row, column] in which a voxel is shown. */
export const voxelToPixel = (orientation, size, voxel) =>
  [orientation.down, orientation.right].map((direction) => reversedIndex(direction, size, voxel[direction.axis]));

/** Return the voxel that is shown in a pixel [row, column] of the plane through another voxel. */
export function pixelToVoxel(orientation, size, voxelInPlane, [row, column]) {
  const voxel = [...voxelInPlane];
  voxel[orientation.down.axis] = reversedIndex(orientation.down, size, row);
  voxel[orientation.right.axis] = reversedIndex(orientation.right, size, column);
  return voxel;
}
