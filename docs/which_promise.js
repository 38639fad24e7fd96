// The form of "Which promise?": puts together what docs/which_promise.py computed for every answer.

const TABLE = JSON.parse(document.getElementById("promise-table").textContent);

function answerTo({ loss, scope, guarantee, threshold, ...levels }) {
  const refused = TABLE.refused[`${scope}|${guarantee}`];
  if (refused !== undefined) return { refused };
  const taken = TABLE.takes[guarantee];
  const found = TABLE.promises[[scope, guarantee, ...taken.map((name) => levels[name])].join("|")];
  const [lossArguments, lossName] = TABLE.losses[loss];
  const command = [
    TABLE.command,
    `--threshold ${threshold}`,
    lossArguments,
    TABLE.scopes[scope],
    found.named === "marginal" ? "" : `--guarantee ${found.named}`,
    ...taken.map((name) => (levels[name] === TABLE.defaults[name] ? "" : `--${name} ${levels[name]}`)),
  ].filter(Boolean).join(" ");
  const count = typeof found.n === "number" ? found.n : found.n[loss][TABLE.thresholds.indexOf(threshold)];
  const parts = { loss: lossName, threshold, n: count * found.per_unit, groups: count };
  const template = (lossName.includes(" ") && found.spaced) || found.plain;
  const formula = template.replace(/\{(\w+)\}/g, (_, name) => parts[name]);
  const sentence = found.begins + TABLE.endings[loss][found.about][TABLE.thresholds.indexOf(threshold)];
  return { command, sentence, formula, needed: `${count} ${found.units}`, columns: found.columns, taken };
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("promise-form");
  const part = (name) => form.querySelector(`.${name}`);
  const questions = ["loss", "scope", "guarantee", "threshold", "confidence", "delta"];

  function show() {
    const answer = answerTo(Object.fromEntries(questions.map((name) => [name, form.elements[name].value])));
    part("refused").hidden = answer.refused === undefined;
    form.querySelector("dl").hidden = answer.refused !== undefined;
    if (answer.refused !== undefined) {
      part("refused").textContent = `Not possible: ${answer.refused}.`;
      return;
    }
    const columns = answer.columns.join(" and ");
    part("command").textContent = answer.command;
    part("sentence").textContent = answer.sentence;
    part("formula").textContent = answer.formula;
    part("needed").textContent = `at least ${answer.needed}` + (columns && `, and a column ${columns} in manifest.csv`) + ".";
    for (const name of ["confidence", "delta"]) form.elements[name].disabled = !answer.taken.includes(name);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", show);
  form.hidden = false;
  show();
});
