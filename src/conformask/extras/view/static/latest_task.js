// Limits work that is requested faster than it can be done, such as a request for every move of a slider.

/** An asynchronous task that runs once at a time; of the calls that arrive meanwhile, only the latest runs next. */
export class LatestTask {
  #task;
  #onError;
  #isRunning = false;
  #nextArguments = null;

  constructor(task, onError) {
    this.#task = task;
    this.#onError = onError;
  }

  /** Run the task with these arguments, now or after the current run. */
  async request(...taskArguments) {
    if (this.#isRunning) {
      this.#nextArguments = taskArguments;
      return;
    }
    this.#isRunning = true;
    await this.#task(...taskArguments).catch(this.#onError);
    this.#isRunning = false;
    const nextArguments = this.#nextArguments;
    this.#nextArguments = null;
    if (nextArguments) this.request(...nextArguments);
  }
}
