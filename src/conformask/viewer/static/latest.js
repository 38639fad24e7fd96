// One request at a time; of those that wait meanwhile only the latest is made.

export class Latest {
  #busy = false;
  #waiting = null;

  constructor(ask, fail) {
    this.ask = ask;
    this.fail = fail;
  }

  async want(...wanted) {
    if (this.#busy) {
      this.#waiting = wanted;
      return;
    }
    this.#busy = true;
    await this.ask(...wanted).catch(this.fail);
    this.#busy = false;
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) this.want(...waiting);
  }
}
