// Answers where there is no network, and gives every answer the headers that allow threads, which few static hosts send.
const CACHE = "ssiu " + registration.scope + " {{ version }}";
const PAGE = {{ files | tojson }};

async function install() {
  const cache = await caches.open(CACHE);
  await cache.addAll(PAGE.map(name => new Request(name, {cache: "no-cache"})));
  await skipWaiting();
}

async function activate() {
  const earlier = (await caches.keys()).filter(name => name.startsWith("ssiu " + registration.scope + " ") && name !== CACHE);
  await Promise.all(earlier.map(name => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const found = await fetch(request).catch(async error => {
    const cache = await caches.open(CACHE);
    const asked = request.url === registration.scope + "index.html" ? registration.scope : request;
    const kept = await cache.match(asked, {ignoreSearch: true});
    if (!kept) throw error;
    return kept;
  });
  if (found.type === "opaqueredirect") return found;
  const headers = new Headers(found.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(found.body, {status: found.status, statusText: found.statusText, headers});
}

oninstall = event => event.waitUntil(install());
onactivate = event => event.waitUntil(activate());
onfetch = event => {
  const {method, url} = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
};
