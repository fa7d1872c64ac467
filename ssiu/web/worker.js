// Everything that takes time, away from the page. It is sent {settings, backend, scale} to make a network ready, and
// {file, scale, pixels} to upscale an image in tiles that need at most `pixels` LR pixels at once.
import {readImage} from "./image_files.js";
import {openNetwork, threads} from "./network.js";
import {encodePng} from "./png.js";
import {Refused} from "./refused.js";
import {bicubic, upscale} from "./upscaler.js";

const WARM_UP = 32;  // side of an image that shows how fast this device is

let settings, backend;
let network = {};  // {scale, run}

async function prepare(scale) {
  if (network.scale === scale) return;
  const {file, multiple} = settings.models[scale];
  network = {scale, multiple, run: await openNetwork(file, backend)};
  let milliseconds = null;
  for (const _ of backend === "cpu" ? [1, 2] : []) {  // the second counts; a GPU would show how long it compiles
    const start = performance.now();
    await network.run(new Float32Array(3 * WARM_UP ** 2), WARM_UP, WARM_UP, [0, 0, WARM_UP, WARM_UP]);
    milliseconds = (performance.now() - start) / WARM_UP ** 2;
  }
  postMessage({kind: "ready", scale, backend, threads: threads(), milliseconds});
}

async function upscaleFile({file, scale, pixels}) {
  const image = await readImage(file, scale);
  postMessage({kind: "read", width: image.width, height: image.height});
  await prepare(scale);
  const tiling = {pixels, multiple: network.multiple, margin: settings.margin};
  const result = await upscale(image, scale, network.run, tiling, (done, all) => postMessage({kind: "progress", done, all}));
  postMessage({kind: "encoding"});
  const sr = await encodePng(result);
  postMessage({kind: "done", sr, bicubic: await encodePng(bicubic(image, scale)), width: result.width, height: result.height});
}

async function answer(message) {
  try {
    if (message.settings) {
      ({settings, backend} = message);
      await prepare(message.scale);
    } else {
      await upscaleFile(message);
    }
  } catch (error) {
    postMessage({kind: error instanceof Refused ? "refused" : "failed", message: error.message || String(error)});
  }
}

let last = Promise.resolve();
onmessage = ({data}) => { last = last.then(() => answer(data)); };  // one after the other
