// Buttons below each figure save it as it stands without the page: light, on white.
const SCALE = 4, FONT = "Helvetica, Arial, sans-serif";

const save = (href, name) => Object.assign(document.createElement("a"), { href, download: name }).click();

// Editors of vector graphics know no CSS variables; each names its own fallback.
const standalone = (svg) => {
  const copy = svg.cloneNode(true), { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.style.width = "";
  copy.style.fontFamily = FONT;
  return new XMLSerializer().serializeToString(copy).replace(/var\(--\w+, (#\w+)\)/g, "$1");
};

const uri = (svg) => "data:image/svg+xml," + encodeURIComponent(standalone(svg));

const drawn = async (svg) => {
  const image = Object.assign(new Image(), { src: uri(svg) });
  await image.decode();
  const canvas = document.createElement("canvas"), { width, height } = svg.viewBox.baseVal;
  [canvas.width, canvas.height] = [SCALE * width, SCALE * height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
};

for (const figure of document.querySelectorAll("figure[data-name]")) {
  const svg = figure.querySelector("svg"), place = document.createElement("p");
  const name = figure.dataset.name.toLowerCase().replace(/\W+/g, "-").replace(/-$/, "");
  place.className = "save";
  for (const [suffix, content] of [["svg", uri], ["png", drawn]]) {
    const button = document.createElement("button");
    button.textContent = suffix.toUpperCase();
    button.setAttribute("aria-label", `Save ${figure.dataset.name} as ${suffix.toUpperCase()}`);
    button.addEventListener("click", async () => save(await content(svg), `${name}.${suffix}`));
    place.append(button);
  }
  figure.append(place);
}
