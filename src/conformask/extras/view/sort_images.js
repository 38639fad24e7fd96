// The table of images: a click on a heading sorts, words in the box leave the rows that hold them.
const images = document.querySelector(".images");

const valueOf = (row, column) => {
  const cell = row.cells[column], number = cell.querySelector("data");
  return number ? Number(number.value || NaN) : cell.textContent;
};

const compared = (a, b) =>
  typeof a === "number" ? (isNaN(a) ? 1 : isNaN(b) ? -1 : a - b) : a.localeCompare(b, "en", { numeric: true });

const sort = (heading) => {
  const falling = heading.ariaSort === "ascending", body = images.querySelector("tbody");
  for (const other of images.querySelectorAll("th")) other.ariaSort = null;
  heading.ariaSort = falling ? "descending" : "ascending";
  const column = heading.cellIndex, sign = falling ? -1 : 1;
  const keyed = [...body.rows].map((row) => [valueOf(row, column), row]);
  keyed.sort(([a], [b]) => sign * compared(a, b));
  body.append(...keyed.map(([, row]) => row));
};

const search = (words) => {
  const rows = [...images.querySelectorAll("tbody tr")];
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words.toLowerCase().trim());
  const shown = rows.filter((row) => !row.hidden).length;
  images.querySelector("output").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
};

if (images) {
  for (const heading of images.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(heading));
    heading.append(button);
  }
  images.querySelector("label").hidden = false;
  images.querySelector("input").addEventListener("input", (event) => search(event.target.value));
}
