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

  // What has no proof together with the answer to the other question cannot be chosen; its title says why.
  function disableUnproven(scope, guarantee) {
    for (const input of form.querySelectorAll("[name=scope], [name=guarantee]")) {
      const pair = input.name === "scope" ? [input.value, guarantee] : [scope, input.value];
      const refused = TABLE.refused[pair.join("|")];
      input.disabled = refused !== undefined;
      input.parentElement.title = refused ?? "";
    }
    part("unproven").hidden = !form.querySelector("[type=radio]:disabled");
  }

  function show() {
    const given = Object.fromEntries(questions.map((name) => [name, form.elements[name].value]));
    const answer = answerTo(given);
    disableUnproven(given.scope, given.guarantee);
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
