/** Where a message is written. Enter sends; the Enter that ends an input method's composition does not. */

import { fill } from "./elements.js";

const COMPOSING_KEY_CODE = 229; // Safari ends the composition before this keydown, and says so only here

export class Composer {
  #text;
  #count;
  #longest;
  #words;
  #onSend;

  constructor({ form, text, count, longest, words, onSend }) {
    this.#text = text;
    this.#count = count;
    this.#longest = longest;
    this.#words = words;
    this.#onSend = onSend;
    form.addEventListener("submit", (event) => this.#submitted(event));
    text.addEventListener("keydown", (event) => this.#pressed(event));
    text.addEventListener("input", () => this.#changed());
    this.#changed();
  }

  /** Take a message back to write it anew; what is being written stays below it. */
  edit(message) {
    this.#text.value = [message, this.#text.value].filter(Boolean).join("\n");
    this.#changed();
    this.#text.focus();
  }

  #pressed(event) {
    if (event.key !== "Enter" || event.shiftKey) return;
    if (event.isComposing || event.keyCode === COMPOSING_KEY_CODE) return;
    event.preventDefault();
    this.#text.form.requestSubmit();
  }

  #submitted(event) {
    event.preventDefault();
    const message = this.#text.value.trim();
    if (!message || lengthOf(message) > this.#longest) return;
    this.#text.value = "";
    this.#changed();
    this.#text.focus();
    this.#onSend(message);
  }

  #changed() {
    const length = lengthOf(this.#text.value.trim());
    const isTooLong = length > this.#longest;
    this.#count.textContent = isTooLong ? fill(this.#words.tooLong, { length, longest: this.#longest }) : "";
    this.#text.toggleAttribute("aria-invalid", isTooLong);
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}

/** Count as the server does: characters, not UTF-16 units. */
function lengthOf(text) {
  return [...text].length;
}
