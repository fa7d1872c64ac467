// Which tiles an image is upscaled in: the rule of `ssiu/inference/tiles.py`, with as much memory as a page may take.

const SMALLEST_SIDE = 16;

const roundUp = (value, multiple) => Math.ceil(value / multiple) * multiple;

// Regions {top, left, bottom, right} in LR pixels, the last two the first row and column outside: tiles that see at most
// `pixels` each, and all together as few as need be.
export function regions(height, width, {pixels, multiple, margin}) {
  const rows = choices(height, multiple, margin), columns = choices(width, multiple, margin);
  let best = {tall: rows.at(-1).side, wide: columns.at(-1).side, all: Infinity};
  for (const row of rows) {
    for (const column of columns) {
      if (row.seen * column.seen <= pixels && row.all * column.all < best.all) {
        best = {tall: row.side, wide: column.side, all: row.all * column.all};
      }
    }
  }
  const found = [];
  for (let top = 0; top < height; top += best.tall) {
    for (let left = 0; left < width; left += best.wide) {
      found.push({top, left, bottom: Math.min(top + best.tall, height), right: Math.min(left + best.wide, width)});
    }
  }
  return found;
}

// {side, seen, all}: a side of a tile along `size`, what such a tile sees along it, what all tiles do.
function choices(size, multiple, margin) {
  const around = roundUp(margin, multiple), found = [];
  for (let number = 1; number <= Math.ceil(size / Math.max(multiple, SMALLEST_SIDE)); number++) {
    const side = roundUp(Math.ceil(size / number), multiple), cuts = Math.ceil(size / side) - 1;
    found.push({side, seen: Math.min(side + around * Math.min(cuts, 2), size), all: size + 2 * around * cuts});
  }
  return found;
}

// What the network sees for a region: `margin` more on every side, from and to a multiple or the border of the image.
export function seen(region, height, width, {multiple, margin}) {
  const start = value => Math.floor(Math.max(value - margin, 0) / multiple) * multiple;
  const end = (value, border) => Math.min(roundUp(value + margin, multiple), border);
  return {top: start(region.top), left: start(region.left), bottom: end(region.bottom, height), right: end(region.right, width)};
}
