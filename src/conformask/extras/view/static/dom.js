// Helpers for the DOM that several modules share.

/** Return the first element that matches a CSS selector, or null. */
export const $ = (selector, root = document) => root.querySelector(selector);

/** Return a new element with these properties, such as className and textContent. */
export const createElement = (tag, properties) => Object.assign(document.createElement(tag), properties);

/** Open or close a panel below the toolbar, and report it to assistive technology at the panel's button. */
export function togglePanel(name, open = $(`#${name}-panel`).hidden) {
  $(`#${name}-panel`).hidden = !open;
  $(`#toggle-${name}`).setAttribute("aria-expanded", open);
}
