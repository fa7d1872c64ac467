// Which tiles an image is upscaled in: what `ssiu/upscaling/tiles.py` does on a CPU, so that both give the same image.

const roundUp = (value, multiple) => Math.ceil(value / multiple) * multiple;

// Regions {top, left, bottom, right} in LR pixels, the last two the first row and column outside: the whole image where
// `pixels` LR pixels are enough, else squares as large as fit with the margin that they see, as few as need be.
export function regions(height, width, {pixels, multiple, margin}) {
  if (height * width <= pixels) return [{top: 0, left: 0, bottom: height, right: width}];
  const longer = Math.max(height, width);
  const largest = Math.floor(Math.sqrt(pixels)) - 2 * roundUp(margin, multiple);
  const number = Math.ceil(longer / Math.max(Math.floor(largest / multiple) * multiple, multiple));
  const side = roundUp(Math.ceil(longer / number), multiple);
  const found = [];
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      found.push({top, left, bottom: Math.min(top + side, height), right: Math.min(left + side, width)});
    }
  }
  return found;
}

// What the network sees for a region: `margin` more on every side, from and to a multiple or the border of the image.
export function seen(region, height, width, {multiple, margin}) {
  const start = value => Math.floor(Math.max(value - margin, 0) / multiple) * multiple;
  const end = (value, border) => Math.min(roundUp(value + margin, multiple), border);
  return {top: start(region.top), left: start(region.left), bottom: end(region.bottom, height), right: end(region.right, width)};
}
