// Images over one another with a line between two of them, zoom and a place to look at: for report.html, which has
// this file in it, and for the page of `ssiu export web`.
const MOST_ZOOM = 16;

export function element(tag, properties, parent) {
  const made = Object.assign(document.createElement(tag), properties);
  if (parent) parent.append(made);
  return made;
}

// figure: holds a .view (data-width, data-height: its pixels) with an img for each choice, whose alt is its name.
// left, right: the choices to begin with. computed: more choices, name -> what makes an element of the same size.
// legend: explains those, and is shown with them.
export function makeSlider(figure, left, right, computed = {}, legend = null) {
  const view = figure.querySelector(".view");
  const layers = {};
  for (const image of view.querySelectorAll("img")) {
    layers[image.alt] = element("div", {className: "layer"}, view);
    layers[image.alt].append(image);
  }
  view.style.aspectRatio = view.dataset.width + "/" + view.dataset.height;
  const names = [...Object.keys(layers), ...Object.keys(computed)];
  const state = {left, right, at: 50, zoom: 1, x: 0, y: 0};  // x, y: what is at the left top, 0..1
  const tags = {left: element("div", {className: "tag left"}, view), right: element("div", {className: "tag right"}, view)};
  const divider = element("div", {className: "divider"}, view);
  const controls = element("div", {className: "controls"}, figure);
  const label = figure.dataset.name;
  const range = element("input", {type: "range", min: 0, max: 100, step: 0.5, ariaLabel: label + ": divider"}, controls);
  for (const side of names.length > 2 ? ["left", "right"] : []) {
    const select = element("select", {ariaLabel: label + ": " + side + " image"}, controls);
    names.forEach(name => element("option", {value: name, textContent: name, selected: name === state[side]}, select));
    select.onchange = () => { state[side] = select.value; draw(); };
  }
  const smaller = element("button", {type: "button", textContent: "\u2212", ariaLabel: label + ": zoom out"}, controls);
  const shown = element("output", {}, controls);
  const larger = element("button", {type: "button", textContent: "+", ariaLabel: label + ": zoom in"}, controls);
  if (legend) controls.append(legend);

  function draw() {
    for (const name of [state.left, state.right]) {
      if (!layers[name]) {
        layers[name] = element("div", {className: "layer"}, view);
        layers[name].append(computed[name]());
        view.append(tags.left, tags.right, divider);
      }
    }
    const most = 1 - 1 / state.zoom;
    state.x = Math.min(Math.max(state.x, 0), most);
    state.y = Math.min(Math.max(state.y, 0), most);
    state.at = Math.min(Math.max(state.at, 0), 100);
    for (const [name, layer] of Object.entries(layers)) {
      layer.hidden = name !== state.left && name !== state.right;
      layer.style.display = layer.hidden ? "none" : "";
      layer.style.zIndex = name === state.right ? 1 : 0;
      layer.style.clipPath = state.left === state.right ? ""  // both are cut: through transparency the other would show
        : name === state.right ? "inset(0 0 0 " + state.at + "%)" : "inset(0 " + (100 - state.at) + "% 0 0)";
      layer.firstChild.style.transform =
        "scale(" + state.zoom + ") translate(" + -100 * state.x + "%," + -100 * state.y + "%)";
    }
    for (const part of [tags.left, tags.right, divider]) part.style.zIndex = 2;
    divider.style.left = state.at + "%";
    tags.left.textContent = state.left;
    tags.right.textContent = state.right;
    range.value = state.at;
    shown.textContent = Number(state.zoom.toFixed(1)) + "\u00d7";
    smaller.disabled = state.zoom === 1;
    larger.disabled = state.zoom === MOST_ZOOM;
    if (legend) legend.hidden = !computed[state.left] && !computed[state.right];
    view.classList.toggle("zoomed", state.zoom > 1);
  }

  function zoom(factor, x = 0.5, y = 0.5) {  // around a place of what is shown, 0..1
    const next = Math.min(Math.max(state.zoom * factor, 1), MOST_ZOOM);
    state.x += x / state.zoom - x / next;
    state.y += y / state.zoom - y / next;
    state.zoom = next;
    draw();
  }

  function place(event) {  // in the view, 0..1
    const box = view.getBoundingClientRect();
    return {x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height};
  }

  range.oninput = () => { state.at = Number(range.value); draw(); };
  smaller.onclick = () => zoom(0.5);
  larger.onclick = () => zoom(2);
  view.onkeydown = event => {
    const step = 0.1 / state.zoom;
    const actions = {
      ArrowLeft: () => event.shiftKey ? state.x -= step : state.at -= 2,
      ArrowRight: () => event.shiftKey ? state.x += step : state.at += 2,
      ArrowUp: () => event.shiftKey ? state.y -= step : null,
      ArrowDown: () => event.shiftKey ? state.y += step : null,
      "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    if (actions[event.key]() !== null) event.preventDefault();
    draw();
  };
  view.ondragstart = event => event.preventDefault();
  view.addEventListener("wheel", event => {  // trackpads send a pinch as the wheel with Ctrl
    const out = event.deltaY > 0;
    if (!event.ctrlKey && document.activeElement !== view || out && state.zoom === 1) return;  // the page scrolls
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;  // Firefox with a mouse
    const {x, y} = place(event);
    zoom(Math.exp(Math.min(Math.max(-0.004 * lines * event.deltaY, -0.4), 0.4)), x, y);
  }, {passive: false});
  view.addEventListener("touchmove", event => { if (event.touches.length > 1) event.preventDefault(); }, {passive: false});

  const fingers = new Map();  // pointers that are down -> where they are
  let sliding = false;
  const slide = event => { state.at = 100 * place(event).x; draw(); };
  view.onpointerdown = event => {
    fingers.set(event.pointerId, place(event));
    if (fingers.size > 1) sliding = false;
    else sliding = state.zoom === 1 || event.target === divider;
    view.setPointerCapture(event.pointerId);
    if (sliding) slide(event);
  };
  view.onpointermove = event => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (sliding) return slide(event);
    const now = place(event);
    const rest = [...fingers].find(([id]) => id !== event.pointerId);
    const moved = rest ? 0.5 : 1;  // the middle between two fingers moves half as far
    if (rest) {
      const box = view.getBoundingClientRect();
      const gap = at => Math.max(Math.hypot((at.x - rest[1].x) * box.width, (at.y - rest[1].y) * box.height), 1);
      zoom(gap(now) / gap(before), (now.x + rest[1].x) / 2, (now.y + rest[1].y) / 2);
    }
    state.x -= moved * (now.x - before.x) / state.zoom;
    state.y -= moved * (now.y - before.y) / state.zoom;
    fingers.set(event.pointerId, now);
    draw();
  };
  view.onpointerup = view.onpointercancel = event => { fingers.delete(event.pointerId); };
  draw();
}

