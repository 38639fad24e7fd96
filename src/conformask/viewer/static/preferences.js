// What this browser remembers of its user's wishes: how hidden pixels are marked, whether keys act.

const key = (name) => `conformask.${name}`;

export function preference(name, usual) {
  try {
    return JSON.parse(localStorage.getItem(key(name))) ?? usual;
  } catch {
    return usual; // nothing may be kept here, or something else wrote it
  }
}

export function prefer(name, value) {
  try {
    localStorage.setItem(key(name), JSON.stringify(value));
  } catch {
    // it lasts as long as the page
  }
}
