// Click a picture to enlarge it; the arrow keys walk through its row, in place.
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
let row = [], at = 0;
const show = (index) => {
  at = (index + row.length) % row.length;
  large.src = row[at].src;
  large.alt = row[at].alt;
  large.className = row[at].className;
  dialog.querySelector("p").textContent = row[at].alt + "  ·  ← → to compare, Esc to close";
};
document.addEventListener("click", (event) => {
  const zoom = event.target.closest(".zoom");
  if (!zoom) return;
  row = [...zoom.closest(".row").querySelectorAll("img")];
  show(row.indexOf(zoom.firstElementChild));
  dialog.showModal();
});
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) show(at + step);
});
