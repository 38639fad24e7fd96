// What is promised and what was measured, in the words that the server sends.

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
};

export function showPromise(element, promised, measured) {
  const { name, title, text } = promised.status;
  const parts = [make("p", `standing ${name}`, title)];
  if (promised.headline) parts.push(make("p", "headline", promised.headline));
  parts.push(make("p", "why", text));
  if (measured !== null && measured !== text) parts.push(make("p", "measured", measured));
  if (promised.promise) {
    const formal = make("p", "formal", "");
    formal.append(make("code", "", promised.promise));
    parts.push(formal);
  }
  if (promised.about_masks) parts.push(make("p", "why", promised.about_masks));
  element.replaceChildren(...parts);
}
