// PNG in and out by code: a canvas premultiplies, which changes the colours of what is nearly transparent, and has 8 bits.
import {Refused} from "./refused.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4};  // by colour type
const COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6};  // by number of channels
const DEPTHS = {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]};
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

const CRC = Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(...parts) {
  let sum = -1;
  for (const part of parts) for (let i = 0; i < part.length; i++) sum = CRC[(sum ^ part[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

export const isPng = bytes => SIGNATURE.every((value, i) => bytes[i] === value);
const damaged = how => new Refused("damaged PNG (" + how + ")");

// The chunks, their checksums verified: kind -> contents in order. Throws Refused.
export function pngChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), chunks = {};
  for (let at = SIGNATURE.length; !chunks.IEND;) {
    const length = at + 8 <= bytes.length ? view.getUint32(at) : Infinity;
    if (at + 12 + length > bytes.length) throw damaged("it is truncated");
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) throw damaged("a checksum is wrong");
    (chunks[kind] ||= []).push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return chunks;
}

// {width, height, depth, colour, interlaced} of the chunks. Throws Refused.
export function pngHeader({IHDR, PLTE, IDAT, acTL}) {
  if (!IHDR || IHDR[0].length !== 13 || !IDAT) throw damaged("no header or no image in it");
  const view = new DataView(IHDR[0].buffer, IHDR[0].byteOffset);
  const [depth, colour, , , interlaced] = IHDR[0].subarray(8);
  const header = {width: view.getUint32(0), height: view.getUint32(4), depth, colour, interlaced};
  if (!header.width || !header.height || !DEPTHS[colour]?.includes(depth)) throw damaged("its header makes no sense");
  if (colour === 3 && !PLTE) throw damaged("its palette is missing");
  if (acTL) throw new Refused("an animation; expected a single image");
  return header;
}

// The image of the chunks, see upscaler.js: a palette becomes RGB, a transparent colour alpha, 1 to 4 bits 8.
export async function decodePng(chunks) {
  const {width, height, depth, colour, interlaced} = pngHeader(chunks);
  const samples = CHANNELS[colour], palette = colour === 3 && chunks.PLTE[0], key = colour < 4 && chunks.tRNS?.[0];
  const values = new (depth === 16 ? Uint16Array : Uint8Array)(width * height * samples);
  const data = await rows(chunks.IDAT, interlaced ? ADAM7 : WHOLE, width, height, samples * depth);
  let at = 0;
  for (const [x0, y0, dx, dy] of interlaced ? ADAM7 : WHOLE) {
    const columns = Math.ceil((width - x0) / dx), bytes = Math.ceil(columns * samples * depth / 8);
    if (columns <= 0) continue;
    let above = new Uint8Array(bytes);
    for (let y = y0; y < height; y += dy) {
      const row = data.subarray(at + 1, at + 1 + bytes);
      unfilter(data[at], row, above, Math.max(samples * depth >> 3, 1));
      at += 1 + bytes;
      above = row;
      for (let i = 0; i < columns * samples; i++) {
        const value = depth === 16 ? row[2 * i] << 8 | row[2 * i + 1] : depth === 8 ? row[i]
          : row[i * depth >> 3] >> (8 - depth - i * depth % 8) & (1 << depth) - 1;
        values[samples * (y * width + x0 + Math.floor(i / samples) * dx) + i % samples] = value;
      }
    }
  }
  const icc = chunks.iCCP ? await inflated([chunks.iCCP[0].subarray(chunks.iCCP[0].indexOf(0) + 2)]).catch(() => null) : null;
  const full = depth === 16 ? 65535 : 255, deepen = palette || depth >= 8 ? 1 : 255 / ((1 << depth) - 1);
  if (!palette && !key) return {pixels: deepen === 1 ? values : values.map(v => v * deepen), width, height, channels: samples, icc};
  const channels = (palette ? 3 : samples) + (key ? 1 : 0), pixels = new values.constructor(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    const sample = values.subarray(samples * i, samples * (i + 1));
    const hidden = key && !palette && sample.every((v, c) => v === (key[2 * c] << 8 | key[2 * c + 1]));
    for (let c = 0; c < channels; c++) {
      pixels[channels * i + c] = palette && c < 3 ? palette[3 * sample[0] + c] : palette ? key[sample[0]] ?? 255
        : c < samples ? sample[c] * deepen : hidden ? 0 : full;
    }
  }
  return {pixels, width, height, channels, icc};
}

// The rows of all passes, each after the number of its filter. Throws Refused where some are missing.
async function rows(parts, passes, width, height, bits) {
  let expected = 0;
  for (const [x, y, dx, dy] of passes) {
    if (width > x && height > y) expected += Math.ceil((height - y) / dy) * (1 + Math.ceil(Math.ceil((width - x) / dx) * bits / 8));
  }
  const data = await inflated(parts, expected).catch(() => { throw damaged("its pixels cannot be unpacked"); });
  if (data.length < expected) throw damaged("the last rows are missing");
  return data;
}

// What zlib made `parts` of; the first `most` bytes.
async function inflated(parts, most = 1 << 24) {
  const found = new Uint8Array(most);
  let length = 0;
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  for (let piece = await reader.read(); !piece.done && length < most; piece = await reader.read()) {
    found.set(piece.value.subarray(0, most - length), length);
    length += piece.value.length;
  }
  reader.cancel().catch(() => {});
  return found.subarray(0, length);
}

function unfilter(filter, row, above, step) {
  if (filter > 4) throw damaged("an unknown filter");
  for (let i = 0; i < row.length; i++) {
    const left = i < step ? 0 : row[i - step], up = above[i], corner = i < step ? 0 : above[i - step];
    row[i] += [0, left, up, left + up >> 1, filter === 4 ? paeth(left, up, corner) : 0][filter];
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// A PNG file of an image, see upscaler.js, as a Blob.
export async function encodePng({pixels, width, height, channels, icc}) {
  const bytesPerSample = pixels.BYTES_PER_ELEMENT, length = width * channels * bytesPerSample;
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8 * bytesPerSample, COLOUR_TYPE[channels]], 8);
  const parts = [new Uint8Array(SIGNATURE), ...chunk("IHDR", header)];
  if (icc) {
    const packed = await packedParts(new Blob([icc]).stream());
    parts.push(...chunk("iCCP", ...[new TextEncoder().encode("ICC profile\0\0"), ...packed]));
  }
  for (const part of await packedParts(new ReadableStream(filteredRows(pixels, length, height, channels * bytesPerSample)))) {
    parts.push(...chunk("IDAT", part));
  }
  return new Blob([...parts, ...chunk("IEND")], {type: "image/png"});
}

// A source of rows, each less the average of its left and upper neighbours (filter 3), big-endian.
function filteredRows(pixels, length, height, step) {
  let y = 0, above = new Uint8Array(length);
  return {
    pull(controller) {
      if (y === height) return controller.close();
      const samples = pixels.subarray(pixels.length / height * y, pixels.length / height * ++y);
      const row = pixels.BYTES_PER_ELEMENT === 1 ? samples
        : Uint8Array.from({length}, (_, i) => i % 2 ? samples[i >> 1] & 255 : samples[i >> 1] >> 8);
      const filtered = new Uint8Array(1 + length);
      filtered[0] = 3;
      for (let i = 0; i < length; i++) filtered[i + 1] = row[i] - ((i < step ? 0 : row[i - step]) + above[i] >> 1);
      above = row;
      controller.enqueue(filtered);
    },
  };
}

async function packedParts(stream) {
  const parts = [], reader = stream.pipeThrough(new CompressionStream("deflate")).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) parts.push(piece.value);
  return parts;
}

function chunk(kind, ...parts) {
  const name = new TextEncoder().encode(kind), ends = new DataView(new ArrayBuffer(8));
  ends.setUint32(0, parts.reduce((sum, part) => sum + part.length, 0));
  ends.setUint32(4, crc32(name, ...parts));
  return [ends.buffer.slice(0, 4), name, ...parts, ends.buffer.slice(4)];
}
