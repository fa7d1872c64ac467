// Image files as people have them: PNG, JPEG, WebP; turned, transparent, with a colour profile. What a file holds is kept
// as `ssiu/images` keeps it; what would come out changed is refused. An image: see upscaler.js.
import {decodePng, isPng, pngChunks, pngHeader} from "./png.js";
import {Refused} from "./refused.js";

const MOST_PIXELS = 64e6;  // of the result
const FAINT_COLOUR = [200, 100, 50, 3];  // RGBA, which would come back as (170, 85, 85, 3)
const FAINT = new Uint8Array([  // a WebP of one such pixel
  82, 73, 70, 70, 34, 0, 0, 0, 87, 69, 66, 80, 86, 80, 56, 76, 21, 0, 0, 0, 47, 0, 0, 0, 16, 7, 80, 178, 34, 87, 70,
  33, 128, 0, 40, 104, 98, 68, 68, 255, 3, 0,
]);
const megapixels = pixels => (pixels / 1e6).toLocaleString("en", {maximumFractionDigits: 1});

// The image of a file, as shown. Throws Refused, for one that is too large before it is decoded.
export async function readImage(file, scale) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const reader = [[isPng, pngFacts], [isJpeg, jpegFacts], [isWebp, webpFacts]].find(([matches]) => matches(bytes));
  if (!reader) throw new Refused("not an image that this page reads; expected PNG, JPEG or WebP");
  let facts;
  try {
    facts = reader[1](bytes);
  } catch (error) {
    throw error instanceof RangeError ? new Refused("damaged image (its header ends early)") : error;
  }
  const {width, height, exif, decode} = facts, result = scale * scale * width * height;
  if (result > MOST_PIXELS) {
    throw new Refused(`${width}\u00d7${height} is too large: it would become ${megapixels(result)} megapixels, and this page `
      + `makes at most ${megapixels(MOST_PIXELS)}; choose a smaller scale or image, or use \u201cpython -m ssiu upscale\u201d`);
  }
  const turn = takeOrientation(exif);
  return upright(await decode(), turn);
}

function pngFacts(bytes) {
  const chunks = pngChunks(bytes);
  return {...pngHeader(chunks), exif: chunks.eXIf?.[0], decode: () => decodePng(chunks)};
}

const isJpeg = bytes => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

function jpegFacts(bytes) {
  const view = new DataView(bytes.buffer), profile = [];
  let frame, exif, at = 2;
  for (; view.getUint8(at + 1) !== 0xda; at += 2 + view.getUint16(at + 2)) {  // up to the start of the first scan
    while (view.getUint8(at + 1) === 0xff) at++;
    const marker = view.getUint8(at + 1), content = bytes.subarray(at + 4, at + 2 + view.getUint16(at + 2));
    if (bytes[at] !== 0xff) throw new Refused("damaged JPEG (no marker where one should be)");
    if (marker === 0xe1 && startsWith(content, "Exif\0\0")) exif ||= content;
    if (marker === 0xe2 && startsWith(content, "ICC_PROFILE\0")) profile.push(content.subarray(14));
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) frame = at + 4;
  }
  if (!frame) throw new Refused("damaged JPEG (it does not say its size)");
  while (at < bytes.length && !(bytes[at] === 0xff && bytes[at + 1] === 0xd9)) at++;  // FF is followed by 00 in the scans
  if (at === bytes.length) throw new Refused("damaged JPEG (it is truncated)");
  const samples = view.getUint8(frame + 5), [height, width] = [view.getUint16(frame + 1), view.getUint16(frame + 3)];
  if (samples > 3) throw new Refused("a CMYK image; expected gray or RGB: convert it first");
  const decode = () => decodeOpaque(bytes, "image/jpeg", width, height, samples === 1 ? 1 : 3, joined(profile));
  return {width, height, exif, decode};
}

const isWebp = bytes => startsWith(bytes, "RIFF") && startsWith(bytes.subarray(8), "WEBP");

function webpFacts(bytes) {
  const view = new DataView(bytes.buffer), chunks = {};
  if (8 + view.getUint32(4, true) > bytes.length) throw new Refused("damaged WebP (it is truncated)");
  for (let at = 12; at + 8 <= bytes.length;) {
    const length = view.getUint32(at + 4, true);
    chunks[String.fromCharCode(...bytes.subarray(at, at + 4))] ||= bytes.subarray(at + 8, at + 8 + length);
    at += 8 + length + length % 2;
  }
  const {VP8X: extended, VP8L: lossless, "VP8 ": lossy, ICCP: icc = null, EXIF: exif} = chunks;
  if (chunks.ANIM) throw new Refused("an animation; expected a single image");
  const number = (chunk, at, bits) => {  // little-endian
    const from = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    return from.getUint16(at, true) + (bits > 16 ? from.getUint8(at + 2) << 16 : 0);
  };
  const [width, height] = extended ? [1 + number(extended, 4, 24), 1 + number(extended, 7, 24)]
    : lossless ? [1 + (number(lossless, 1) & 0x3fff), 1 + (number(lossless, 2, 24) >> 6 & 0x3fff)]
    : lossy ? [number(lossy, 6) & 0x3fff, number(lossy, 8) & 0x3fff] : [0, 0];
  if (!width || !height) throw new Refused("damaged WebP (it does not say its size)");
  const transparent = extended?.[0] & 0x10 || lossless?.[4] & 0x10;
  const decode = () => transparent ? decodeTransparent(bytes, width, height, icc)
    : decodeOpaque(bytes, "image/webp", width, height, 3, icc);
  return {width, height, exif, decode};
}

// By the browser and a canvas, which give the file's samples where there is no transparency.
async function decodeOpaque(bytes, type, width, height, channels, icc) {
  const bitmap = await createImageBitmap(new Blob([bytes], {type}), {colorSpaceConversion: "none"}).catch(undecodable);
  if (bitmap.width !== width || bitmap.height !== height) undecodable();
  const context = new OffscreenCanvas(width, height).getContext("2d", {alpha: false, willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data, pixels = new Uint8Array(width * height * channels);
  for (let i = 0, from = 0; i < pixels.length; from += 4) for (let c = 0; c < channels; c++) pixels[i++] = rgba[from + c];
  return {pixels, width, height, channels, icc};
}

// By WebCodecs, without a canvas: that would premultiply.
async function decodeTransparent(bytes, width, height, icc) {
  const proof = await frameSamples(FAINT).catch(() => []);
  if (FAINT_COLOUR.some((value, i) => value !== proof[i])) {
    throw new Refused("this browser changes the colours of transparent WebP; convert it to PNG");
  }
  const pixels = await frameSamples(bytes).catch(undecodable);
  if (pixels.length !== 4 * width * height) undecodable();
  return {pixels, width, height, channels: 4, icc};
}

async function frameSamples(bytes) {  // RGBA
  const options = {premultiplyAlpha: "none", colorSpaceConversion: "none"};
  const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/webp"}), options);
  const frame = new VideoFrame(bitmap, {timestamp: 0, alpha: "keep"}), order = frame.format;
  const pixels = new Uint8Array(frame.allocationSize());
  await frame.copyTo(pixels);  // as it is: where it converts, Chromium premultiplies after all
  frame.close();
  bitmap.close();
  if (order === "BGRA") for (let i = 0; i < pixels.length; i += 4) [pixels[i], pixels[i + 2]] = [pixels[i + 2], pixels[i]];
  return pixels;
}

function undecodable() {
  throw new Refused("damaged image (this browser cannot decode it)");
}

// The EXIF orientation, 1 to 8, which becomes 1 in the file: browsers differ in which formats they turn by themselves.
function takeOrientation(exif) {
  if (!exif) return 1;
  const start = startsWith(exif, "Exif\0\0") ? 6 : 0;
  const view = new DataView(exif.buffer, exif.byteOffset + start, exif.length - start);
  try {
    const little = view.getUint8(0) === 0x49, tags = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(tags, little); i++) {
      const at = tags + 2 + 12 * i;
      if (view.getUint16(at, little) !== 0x112) continue;
      const turn = view.getUint16(at + 8, little);
      view.setUint16(at + 8, 1, little);
      return turn >= 1 && turn <= 8 ? turn : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;  // it ends early: as if there were none
  }
  return 1;
}

// Turned and mirrored as an EXIF orientation says.
function upright(image, turn) {
  if (turn === 1) return image;
  const {pixels, width, height, channels} = image, out = new pixels.constructor(pixels.length);
  const [outWidth, outHeight] = turn > 4 ? [height, width] : [width, height];
  for (let y = 0, to = 0; y < outHeight; y++) {
    for (let x = 0; x < outWidth; x++) {
      const v = [3, 4, 7, 8].includes(turn) ? outHeight - 1 - y : y, u = [2, 3, 6, 7].includes(turn) ? outWidth - 1 - x : x;
      const from = channels * (turn > 4 ? u * width + v : v * width + u);
      for (let c = 0; c < channels; c++) out[to++] = pixels[from + c];
    }
  }
  return {...image, pixels: out, width: outWidth, height: outHeight};
}

const startsWith = (bytes, text) => [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));

function joined(parts) {
  if (!parts.length) return null;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}
