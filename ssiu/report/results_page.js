// report.html: error maps under the sliders, and a table that sorts. slider.js stands before it on the page.
const ERROR_RANGE = 40;  // gray levels of luma at the end of the colour scale
const COLOURS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

function colour(value) {
  const place = Math.min(value / ERROR_RANGE, 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((c, i) => c + (COLOURS[low + 1][i] - c) * (place - low));
}

function errorMap(sr, hr) {  // |SR - HR| on luma, in colour
  const [width, height] = [hr.naturalWidth, hr.naturalHeight];
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const pixels = image => { context.drawImage(image, 0, 0); return context.getImageData(0, 0, width, height).data; };
  const [a, b] = [pixels(sr), pixels(hr)];
  const out = context.createImageData(width, height);
  for (let i = 0; i < a.length; i += 4) {
    const luma = p => (65.481 * p[i] + 128.553 * p[i + 1] + 24.966 * p[i + 2]) / 255;
    out.data.set([...colour(Math.abs(luma(a) - luma(b))), 255], i);
  }
  context.putImageData(out, 0, 0);
  return canvas;
}

function makeFigure(figure) {  // the slider, with the error maps of SR and of a second run
  const images = Object.fromEntries([...figure.querySelectorAll("img")].map(image => [image.alt, image]));
  const other = Object.keys(images).find(name => !["bicubic", "SR", "HR"].includes(name));  // of a second run
  const computed = {error: () => errorMap(images.SR, images.HR)};
  if (other) computed["error of " + other] = () => errorMap(images[other], images.HR);
  const legend = element("div", {className: "legend"});
  legend.append("error of luma: 0");
  const stops = COLOURS.map(c => "rgb(" + c + ")").join(",");
  element("i", {}, legend).style.background = "linear-gradient(to right," + stops + ")";
  legend.append(ERROR_RANGE + " gray levels or more");
  makeSlider(figure, other || "bicubic", "SR", computed, legend);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  table.querySelectorAll("th").forEach((th, column) => {
    const button = element("button", {type: "button", textContent: th.textContent}, th);
    th.firstChild.remove();
    button.onclick = () => {
      const rising = th.getAttribute("aria-sort") !== "ascending";
      const key = row => row.cells[column].dataset.value;
      const compare = th.classList.contains("text") || column === 0
        ? (a, b) => key(a).localeCompare(key(b), undefined, {numeric: true})
        : (a, b) => key(a) - key(b) || 0;
      const rows = [...body.rows].sort((a, b) => rising ? compare(a, b) : compare(b, a));
      body.append(...rows);
      table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", rising ? "ascending" : "descending");
    };
  });
}

document.querySelectorAll("figure").forEach(makeFigure);
document.querySelectorAll("table.sortable").forEach(makeSortable);
