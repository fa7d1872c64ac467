// Upscaling an image in memory, as `ssiu/inference/upscaler.py` does it. An image is {pixels, width, height, channels,
// icc}: pixels a Uint8Array or Uint16Array, channels 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha (never
// premultiplied), icc the colour profile or null.
import {regions, seen} from "./tiles.js";

export const fullOf = pixels => pixels instanceof Uint16Array ? 65535 : 255;
export const hasAlpha = image => image.channels % 2 === 0;

// A copy of `image` in which what is fully transparent has the colour of the nearest visible pixel: what is stored there
// is arbitrary, often black, and would bleed into the visible edge. Nearest by the distance that Python's OpenCV takes.
export function spreadColour(image) {
  if (!hasAlpha(image)) return image;
  const {pixels, width, height, channels} = image;
  const alpha = index => pixels[channels * index + channels - 1];
  const far = new Float32Array(width * height), nearest = new Int32Array(width * height);
  let visible = 0;
  for (let i = 0; i < far.length; i++) {
    nearest[i] = i;
    far[i] = alpha(i) ? 0 : Infinity;
    visible += far[i] === 0;
  }
  if (visible === 0 || visible === far.length) return image;
  const steps = [[-2, -1, 2.1969], [-2, 1, 2.1969], [-1, -2, 2.1969], [-1, -1, 1.4], [-1, 0, 1], [-1, 1, 1.4],
                 [-1, 2, 2.1969], [0, -1, 1]];  // rows down, columns right, length: what was passed before
  for (const direction of [1, -1]) {
    for (let n = 0; n < far.length; n++) {
      const i = direction === 1 ? n : far.length - 1 - n;
      const y = Math.floor(i / width), x = i % width;
      for (const [dy, dx, length] of steps) {
        const [fromY, fromX] = [y + direction * dy, x + direction * dx];
        if (fromY < 0 || fromY >= height || fromX < 0 || fromX >= width) continue;
        const from = fromY * width + fromX;
        if (far[from] + length < far[i]) {
          far[i] = far[from] + length;
          nearest[i] = nearest[from];
        }
      }
    }
  }
  const spread = pixels.slice();
  for (let i = 0; i < far.length; i++) {
    for (let c = 0; c < channels - 1; c++) spread[channels * i + c] = pixels[channels * nearest[i] + c];
  }
  return {...image, pixels: spread};
}

// The channels that pass through the network together: the colour, and alpha as a gray image where it is not the same
// everywhere.
function planesOf({pixels, channels}) {
  const colour = channels < 3 ? [0] : [0, 1, 2];
  if (channels % 2) return [colour];
  const last = channels - 1;
  for (let i = last; i < pixels.length; i += channels) {
    if (pixels[i] !== pixels[last]) return [colour, [last]];
  }
  return [colour];
}

// The image upscaled; `run` is of network.js. onProgress is told how many LR pixels of how many have been finished.
// Throws Error where the network's output has NaN or infinity.
export async function upscale(image, scale, run, {pixels: most, multiple, margin}, onProgress) {
  const {pixels, width, height, channels} = spreadColour(image);
  const full = fullOf(pixels), planes = planesOf(image);
  const tiling = {pixels: Math.floor(most / planes.length), multiple, margin};
  const out = {...image, width: scale * width, height: scale * height};
  out.pixels = new pixels.constructor(out.width * out.height * channels);
  if (hasAlpha(image) && planes.length === 1) {
    for (let i = channels - 1; i < out.pixels.length; i += channels) out.pixels[i] = pixels[channels - 1];
  }
  let done = 0;
  for (const region of regions(height, width, tiling)) {
    const view = seen(region, height, width, tiling);
    const rows = view.bottom - view.top, columns = view.right - view.left;
    for (const plane of planes) {
      const lr = new Float32Array(3 * rows * columns);
      for (let c = 0, at = 0; c < 3; c++) {
        for (let y = view.top; y < view.bottom; y++) {
          let from = channels * (y * width + view.left) + plane[c % plane.length];
          for (let x = 0; x < columns; x++, from += channels) lr[at++] = pixels[from] / full;
        }
      }
      place(await run(lr, rows, columns, [view.top, view.left, height, width]), region, view, plane);
    }
    done += (region.bottom - region.top) * (region.right - region.left);
    onProgress(done, height * width);
  }
  return out;

  function place(sr, region, view, plane) {  // what is of the region, as samples of the file's depth
    const columns = scale * (view.right - view.left), size = sr.length / 3;
    for (let y = scale * region.top; y < scale * region.bottom; y++) {
      let from = (y - scale * view.top) * columns + scale * (region.left - view.left);
      let to = channels * (y * out.width + scale * region.left) + plane[0];
      for (let x = scale * region.left; x < scale * region.right; x++, from++, to += channels) {
        for (let c = 0; c < plane.length; c++) {
          const value = plane.length === 3 ? sr[c * size + from] : (sr[from] + sr[size + from] + sr[2 * size + from]) / 3;
          if (!Number.isFinite(value)) throw new Error("the network's output has NaN or infinity");
          out.pixels[to + c] = Math.round(Math.min(Math.max(value, 0), 1) * full);
        }
      }
    }
  }
}

// `image` enlarged bicubically, the usual kernel (a = -0.5) with borders mirrored: what the result is compared with.
export function bicubic(image, scale) {
  const {pixels, width, height, channels} = spreadColour(image);
  const full = fullOf(pixels);
  const cubic = x => x <= 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  const taps = length => Array.from({length: scale * length}, (_, i) => {  // for each place: 4 x [where, weight]
    const at = (i + 0.5) / scale - 0.5;
    return [-1, 0, 1, 2].map(step => {
      const from = Math.floor(at) + step, inside = from < 0 ? -1 - from : from >= length ? 2 * length - 1 - from : from;
      return [Math.min(Math.max(inside, 0), length - 1), cubic(Math.abs(at - from))];
    });
  });
  const acrossTaps = taps(width), downTaps = taps(height);
  const out = new pixels.constructor(pixels.length * scale * scale), rowLength = scale * width * channels;
  const widened = new Map();  // row -> it, as wide as the result
  const widen = y => {
    const row = new Float32Array(rowLength);
    for (let x = 0, to = 0; x < scale * width; x++) {
      for (let c = 0; c < channels; c++, to++) {
        for (const [from, weight] of acrossTaps[x]) row[to] += weight * pixels[channels * (y * width + from) + c];
      }
    }
    widened.set(y, row);
    widened.delete(y - 5);
    return row;
  };
  downTaps.forEach((four, y) => {
    const rows = four.map(([from]) => widened.get(from) || widen(from));
    for (let i = 0; i < rowLength; i++) {
      let sum = 0;
      for (let t = 0; t < 4; t++) sum += four[t][1] * rows[t][i];
      out[y * rowLength + i] = Math.round(Math.min(Math.max(sum, 0), full));
    }
  });
  return {...image, pixels: out, width: scale * width, height: scale * height};
}
