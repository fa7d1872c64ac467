// The network, run by ONNX Runtime on the GPU (WebGPU) or the CPU (WebAssembly with SIMD, and threads where allowed).

const MOST_THREADS = 8;
const RUNTIMES = {  // the first is smaller and faster on a CPU, the second has WebGPU
  cpu: {provider: "wasm", library: "ort.wasm.js", binary: "ort-wasm-simd-threaded"},
  gpu: {provider: "webgpu", library: "ort.webgpu.js", binary: "ort-wasm-simd-threaded.asyncify"},
};

export const threads = () => self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;

// The addresses of what `backend` needs beside the model.
export const runtimeFiles = backend => {
  const {library, binary} = RUNTIMES[backend];
  return [library, binary + ".js", binary + ".wasm"].map(name => "runtime/" + name);
};

// Returns run(lr, height, width, offset): Float32Array (3 x height x width) in [0, 1] to one of 3 x s height x s width. offset
// is where it lies: top and left, and the height and width of its image.
export async function openNetwork(model, backend) {
  const [library, mjs, wasm] = runtimeFiles(backend).map(name => new URL(name, import.meta.url).href);
  const ort = await import(library);
  ort.env.wasm.wasmPaths = {mjs, wasm};
  ort.env.wasm.numThreads = threads();
  const response = await fetch(model);
  if (!response.ok) throw new Error(model + ": the server answers " + response.status);
  const options = {executionProviders: [RUNTIMES[backend].provider], logSeverityLevel: 3};
  const session = await ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()), options);
  return async (lr, height, width, offset) => {
    const input = new ort.Tensor("float32", lr, [1, 3, height, width]);
    const {sr} = await session.run({lr: input, tile_offset: new ort.Tensor("int32", Int32Array.from(offset), [4])});
    const values = sr.data;
    input.dispose();
    sr.dispose();
    return values;
  };
}
