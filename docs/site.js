// What pages need besides the theme: pictures that open large, and tables and the search that keys and screen readers
// can use. Without it everything can still be read.

const LARGE = "article p > img, article figure > img";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A dialog that shows one picture at a time. The browser keeps the focus in it and gives it back to the button.
function lightbox(pictures) {
  const [previous, next, close] = [["‹", "Previous picture"], ["›", "Next picture"], ["×", "Close"]].map(([sign, name]) =>
    make("button", { type: "button", "aria-label": name, title: name }, sign));
  const large = make("img");
  const frame = make("div", { class: "lightbox-frame", tabindex: "0", role: "group", "aria-label": "Picture" }, large);
  const caption = make("p", { "aria-live": "polite" });
  const bar = make("div", { class: "lightbox-bar" }, caption, previous, next, close);
  const dialog = make("dialog", { class: "lightbox" }, frame, bar);
  let place = 0;

  function show(wanted) {
    place = (wanted + pictures.length) % pictures.length;
    const { src, alt } = pictures[place];
    large.src = src;
    large.alt = alt;
    caption.textContent = pictures.length > 1 ? `${place + 1} of ${pictures.length}: ${alt}` : alt;
    dialog.setAttribute("aria-label", `Picture: ${alt}`);
    frame.scrollTo(0, 0);
  }

  previous.hidden = next.hidden = pictures.length < 2;
  previous.addEventListener("click", () => show(place - 1));
  next.addEventListener("click", () => show(place + 1));
  close.addEventListener("click", () => dialog.close());
  frame.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined || pictures.length < 2 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(place + step);
  });
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the theme has keys of its own
  document.body.append(dialog);
  return (wanted) => {
    show(wanted);
    dialog.showModal();
    frame.focus();
  };
}

function enlarge() {
  const pictures = [...document.querySelectorAll(LARGE)].filter((picture) => !picture.closest("a, button"));
  if (!pictures.length) return;
  const open = lightbox(pictures);
  pictures.forEach((picture, place) => {
    const button = make("button", { type: "button", class: "enlarge", "aria-haspopup": "dialog" });
    picture.replaceWith(button);
    button.append(picture, make("span", {}, " Enlarge"));
    button.addEventListener("click", () => open(place));
  });
}

// The theme makes these while the page loads: bars of buttons over code, which are no landmarks, and boxes in which
// wide tables scroll, which keys reach only where they are focusable.
function makeAccessible() {
  document.querySelectorAll("nav.md-code__nav:not([role])").forEach((bar) => bar.setAttribute("role", "none"));
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((box) => {
    if (box.scrollWidth <= box.clientWidth) {
      ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
    } else if (!box.hasAttribute("tabindex")) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Wide table, which scrolls");
    }
  });
}

// The search draws itself where no style of a page reaches: a dialog without a name, results that are named by their
// titles alone, and their paths too faintly.
function labelSearch(host) {
  const root = host.shadowRoot;
  if (!root || host.dataset.labelled) return;
  host.dataset.labelled = "true";
  root.append(make("style", {}, '[id$="-path"] { color: inherit !important; opacity: 0.8; }'));
  const name = () => {
    root.querySelector("dialog:not([aria-label])")?.setAttribute("aria-label", "Search");
    root.querySelectorAll("[role=option][aria-labelledby]").forEach((result) => result.removeAttribute("aria-labelledby"));
  };
  new MutationObserver(name).observe(root, { childList: true, subtree: true });
  name();
}

document.addEventListener("DOMContentLoaded", () => {
  enlarge();
  new MutationObserver(makeAccessible).observe(document.querySelector("article") ?? document.body, { childList: true, subtree: true });
  new MutationObserver(() => [...document.body.children].forEach(labelSearch)).observe(document.body, { childList: true });
  [...document.body.children].forEach(labelSearch);
  addEventListener("resize", makeAccessible);
  addEventListener("load", makeAccessible);
  addEventListener("toggle", makeAccessible, true); // a folded section is opened
  makeAccessible();
});
