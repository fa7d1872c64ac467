// The page: what the visitor does and sees. All work is done by worker.js.
import {runtimeFiles} from "./network.js";
import {element, makeSlider} from "./slider.js";

const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
                             253, 98, 11]);  // a WebAssembly module with one instruction of it
const FEWEST_PIXELS = 112 ** 2;  // below, a tile would see little but its margin
const OF_MEMORY = /memory|alloc|abort/i;  // words of errors that smaller tiles may avoid

const part = Object.fromEntries([...document.querySelectorAll("[id]")].map(found => [found.id, found]));
const say = status => { part.status.textContent = status; };
const complain = problem => { part.problem.textContent = problem; };
const scale = () => Number(part.form.elements.scale.value);
const backend = () => part.backend.value;

let settings;  // models.json
let worker;
let file;  // chosen last
let run = null;  // the one going on: {scale, pixels, name, from, done, all}
let milliseconds = {};  // "backend scale" -> per LR pixel, as far as it is known
let addresses = [];  // of the images that are shown

function missing() {
  if (!self.isSecureContext) return "a secure address (https, or this machine)";
  if (!self.WebAssembly || !WebAssembly.validate(SIMD)) return "WebAssembly with SIMD";
  if (!self.CompressionStream || !self.DecompressionStream) return "compression streams";
  if (!self.OffscreenCanvas) return "offscreen canvases";
  return null;
}

async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter) part.backend.querySelector("[value=gpu]").remove();
  return adapter && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);  // a software GPU is slow
}

function openWorker() {
  worker?.terminate();
  worker = new Worker("worker.js", {type: "module"});
  worker.onmessage = ({data}) => handlers[data.kind](data);
  worker.onerror = event => { event.preventDefault(); handlers.failed({message: event.message || "it stopped without a reason"}); };
  worker.postMessage({settings, backend: backend(), scale: scale()});
}

const handlers = {
  ready(message) {
    const key = message.backend + " " + message.scale;
    milliseconds[key] ||= message.milliseconds;
    const threads = message.threads > 1 ? ", " + message.threads + " threads" : "";
    if (!run && !file) say("Ready" + (message.backend === "gpu" ? ", on the GPU" : ", on the CPU" + threads) + ".");
    if (run) run.from = performance.now();
    keepOffline(message.backend).catch(() => {});  // no room, or a private window
  },
  read({width, height}) {
    Object.assign(run, {all: width * height, from: performance.now()});
    say(`Upscaling ${run.name}: ${width}\u00d7${height} becomes ${run.scale * width}\u00d7${run.scale * height}.`);
  },
  progress({done}) {
    const now = performance.now();
    milliseconds[backend() + " " + run.scale] = (now - run.from) / done;
    Object.assign(run, {done, at: now});
  },
  encoding() {
    run.encoding = true;
  },
  done(message) {
    const {name, scale: factor} = run;
    end();
    showResult(message, name, factor);
    say(`${name} is ready: ${message.width}\u00d7${message.height}.`);
  },
  refused({message}) {
    const {name} = run;
    end();
    say("");
    complain(`${name}: ${message}.`);
  },
  failed({message}) {
    const pixels = Math.floor((run?.pixels ?? 0) / 2);
    if (backend() === "gpu") {
      part.backend.value = "cpu";
      openWorker();
      if (run) begin(run.pixels);
      complain("The GPU cannot run the network here; continuing with the CPU.");
    } else if (run && OF_MEMORY.test(message) && pixels >= FEWEST_PIXELS) {
      openWorker();
      begin(pixels);
      complain("Not enough memory; trying smaller tiles.");
    } else {
      const name = run ? run.name + ": " : "";
      if (run) end();
      if (name) openWorker();
      const advice = OF_MEMORY.test(message) ? "; close other tabs or choose a smaller image" : "";
      say("");
      complain(`${name}this browser could not run the network (${message.slice(0, 200)})${advice}.`);
    }
  },
};

function choose(chosen) {
  if (!chosen) return;
  file = chosen;
  start();
}

function start() {
  if (run) openWorker();  // of the image before
  complain("");
  begin(settings.models[scale()].pixels);
}

function begin(pixels) {
  clearInterval(run?.timer);
  run = {scale: scale(), pixels, name: file.name || "image", from: performance.now(), done: 0, all: 0};
  run.timer = setInterval(drawProgress, 250);
  part.choices.disabled = true;
  part.running.hidden = false;
  part.result.hidden = true;
  say("Reading " + run.name + ".");
  drawProgress();
  worker.postMessage({file, scale: run.scale, pixels});
}

function end() {
  clearInterval(run.timer);
  const focused = document.activeElement === part.cancel;
  run = null;
  part.running.hidden = true;
  part.choices.disabled = part.start.disabled = false;
  if (focused) part.start.focus();
}

function cancel() {
  const {name} = run;
  openWorker();
  end();
  say(`${name}: cancelled.`);
}

function drawProgress() {  // within a tile by the time that it is expected to take
  const each = milliseconds[backend() + " " + run.scale];
  if (!run.all || !each) {
    part.progress.removeAttribute("value");
    part.left.textContent = "";
    return;
  }
  const expected = run.done + (performance.now() - (run.at ?? run.from)) / each;
  const done = Math.min(expected, run.done + 0.97 * (run.all - run.done));
  part.progress.value = run.encoding ? 1 : done / run.all;
  part.left.textContent = run.encoding ? "writing PNG" : duration((run.all - done) * each / 1000) + " left";
}

function duration(seconds) {
  return seconds < 90 ? `about ${Math.max(Math.ceil(seconds), 1)} s`
    : seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${Math.round(seconds / 3600)} h`;
}

function showResult({sr, bicubic, width, height}, name, factor) {
  addresses.forEach(URL.revokeObjectURL);
  addresses = [sr, bicubic].map(blob => URL.createObjectURL(blob));
  const figure = element("figure", {});
  figure.dataset.name = name;
  const caption = element("figcaption", {}, figure);
  element("b", {textContent: `${name}, ${width}\u00d7${height}`}, caption);
  element("a", {
    className: "button", href: addresses[0], download: name.replace(/\.[^.]*$/, "") + "_x" + factor + ".png",
    textContent: "Download PNG",
  }, caption);
  const view = element("div", {className: "view", tabIndex: 0, role: "group", ariaLabel: name + ": compare"}, figure);
  Object.assign(view.dataset, {width, height});
  element("img", {alt: "bicubic", src: addresses[1]}, view);
  element("img", {alt: "SSIU", src: addresses[0]}, view);
  part.compared.replaceChildren(figure);
  makeSlider(figure, "bicubic", "SSIU");
  part.result.hidden = false;
}

// Keeps what this browser needs of the runtime, and all models; sw.js keeps the rest and answers without a network.
async function keepOffline(used) {
  if (!navigator.serviceWorker || part.offline.textContent) return;
  await navigator.serviceWorker.ready;
  const cache = await caches.open("ssiu " + new URL("./", location).href + " " + settings.version);
  for (const name of [...runtimeFiles(used), ...Object.values(settings.models).map(model => model.file)]) {
    if (!await cache.match(name)) await cache.add(name);
  }
  part.offline.textContent = "This page now works offline, too.";
}

function listen() {
  part.file.onchange = () => { choose(part.file.files[0]); part.file.value = ""; };
  part.form.onsubmit = event => { event.preventDefault(); start(); };
  part.cancel.onclick = cancel;
  part.backend.onchange = openWorker;
  document.onpaste = event => choose(event.clipboardData.files[0]);
  document.ondragover = event => { event.preventDefault(); part.drop.classList.add("over"); };
  document.ondragleave = () => part.drop.classList.remove("over");
  document.ondrop = event => {
    event.preventDefault();
    part.drop.classList.remove("over");
    choose(event.dataTransfer.files[0]);
  };
  part.form.inert = false;
}

const lacks = missing();
if (lacks) {
  complain(`This browser lacks ${lacks}, which this page needs; a current Chrome, Edge, Firefox or Safari has it.`);
} else {
  say("Loading the network, once.");
  settings = await fetch("models.json", {cache: "no-cache"}).then(answer => answer.json()).catch(() => null);
  part.backend.value = await hasGpu() ? "gpu" : "cpu";
  if (settings) {
    const held = Object.entries(settings.models).map(([factor, {weights}]) => `${factor}\u00d7 ${weights}`);
    part.weights.textContent = "Weights: " + held.join("; ") + ".";
    openWorker();
    listen();
  } else {
    say("");
    complain("The network could not be loaded; load the page again when there is a connection.");
  }
  navigator.serviceWorker?.register("sw.js").catch(() => {});  // a private window
}
