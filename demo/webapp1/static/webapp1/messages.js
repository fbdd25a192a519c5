/** The list of messages: what was said, what is on its way, what was refused. Text goes in as text, never as HTML. */

import { avatar, button, element, fill } from "./elements.js";

const MOST_SHOWN = 500;
const NEAR_END_PX = 40;

export class MessageList {
  #log;
  #empty;
  #newer;
  #me;
  #words;
  #onRetry;
  #onEdit;
  #own = new Map(); // id -> {message, item, awaited?}: what we said and the room has not given back yet
  #followsEnd = true;
  #endTop = Infinity; // where the end was when we last went there
  #isScrolling = false;
  #unread = 0;

  constructor({ log, empty, newer, me, words, onRetry, onEdit }) {
    this.#log = log;
    this.#empty = empty;
    this.#newer = newer;
    this.#me = me;
    this.#words = words;
    this.#onRetry = onRetry;
    this.#onEdit = onEdit;
    log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    newer.addEventListener("click", () => this.#goToEnd());
    new ResizeObserver(() => this.#followsEnd && this.#scrollToEnd()).observe(log);
  }

  publication(publication) {
    const at = place(publication);
    const ownId = this.#ownCopiedBy(publication);
    const isMine = ownId !== undefined || (this.#me !== "" && publication.user === this.#me);
    this.#removeOwn(ownId);
    const item = this.#message(publication, isMine);
    if (at) item.dataset.place = at;
    this.#insert(item);
    if (!isMine && !this.#followsEnd) this.#countUnread();
  }

  /** Show a message that is not acknowledged yet. */
  pending(id, message) {
    this.#removeOwn(id);
    const item = this.#message({ message, user: this.#me || undefined }, true);
    item.classList.add("pending");
    item.setAttribute("aria-live", "off"); // the copy from the room is the one to read out
    item.querySelector(".body").append(element("p", "fate", this.#words.sending));
    this.#own.set(id, { message, item });
    this.#insert(item);
    this.#goToEnd();
  }

  acknowledged(ack) {
    const own = this.#own.get(ack.id);
    if (!own) return;
    const at = place(ack);
    const copy = at && this.#log.querySelector(`[data-place="${CSS.escape(at)}"]`);
    if (copy) {
      this.#claim(copy);
      this.#removeOwn(ack.id);
    } else {
      own.awaited = at;
      own.item.classList.remove("pending");
      own.item.querySelector(".fate")?.remove();
    }
  }

  refused({ id, message: reason }) {
    const own = this.#own.get(id);
    if (!own) return this.note(fill(this.#words.refused, { reason }), { isWrong: true });
    own.item.classList.replace("pending", "refused");
    own.item.querySelector(".fate").replaceWith(this.#refusal(id, own.message, reason));
    if (this.#followsEnd) this.#scrollToEnd();
  }

  /** Say something about the conversation, in its place between the messages. */
  note(text, { isWrong = false } = {}) {
    this.#insert(element("p", isWrong ? "note wrong" : "note", text));
  }

  #message({ message, user }, isMine) {
    const item = element("div", `message ${isMine ? "mine" : "theirs"}`);
    item.dataset.author = user ?? "";
    const by = element("p", "by");
    const body = element("div", "body");
    if (isAnnouncement(message)) {
      item.className = "message announcement";
      by.append(this.#words.announcement);
      body.append(by, text(message.announcement));
    } else {
      by.append(element("bdi", "", isMine ? this.#words.you : user ?? this.#words.guest));
      body.append(by, typeof message === "string" ? text(message) : element("code", "text", JSON.stringify(message)));
    }
    item.append(avatar(user), body);
    return item;
  }

  #refusal(id, message, reason) {
    const fate = element("div", "fate wrong");
    const retry = button(this.#words.retry, () => this.#onRetry(id, message));
    const edit = button(this.#words.edit, () => {
      this.#removeOwn(id);
      this.#onEdit(message);
    });
    fate.append(element("p", "", fill(this.#words.refused, { reason })), retry, edit);
    return fate;
  }

  /** Find our message that this is the copy of: by its place, or by what it says where the room does not number. */
  #ownCopiedBy(publication) {
    const at = place(publication);
    const said = JSON.stringify(publication.message);
    const isIt = ({ awaited, message }) => (at ? awaited === at : JSON.stringify(message) === said);
    return [...this.#own.keys()].find((id) => isIt(this.#own.get(id)));
  }

  #removeOwn(id) {
    this.#own.get(id)?.item.remove();
    this.#own.delete(id);
  }

  #claim(item) {
    item.classList.replace("theirs", "mine");
    item.querySelector(".by bdi").textContent = this.#words.you;
    joinToPrevious(item);
    joinToPrevious(item.nextElementSibling);
  }

  /** What is still on its way stays last. */
  #insert(item) {
    this.#empty.hidden = true;
    const firstPending = item.classList.contains("pending") ? null : this.#log.querySelector(".pending");
    this.#log.insertBefore(item, firstPending);
    joinToPrevious(item);
    joinToPrevious(item.nextElementSibling);
    if (this.#followsEnd) this.#scrollToEnd();
  }

  #forgetOldest() {
    while (this.#log.children.length > MOST_SHOWN) this.#empty.nextElementSibling.remove();
  }

  #countUnread() {
    this.#unread += 1;
    this.#newer.textContent = fill(this.#words.newer, { count: this.#unread });
    this.#newer.hidden = false;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    const isNearEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    // What came since we last went to the end moves the end, not the reader.
    this.#followsEnd = isNearEnd || scrollTop > this.#endTop - NEAR_END_PX;
    if (!this.#followsEnd) this.#endTop = Infinity;
    if (!isNearEnd) return;
    this.#unread = 0;
    this.#newer.hidden = true;
  }

  #goToEnd() {
    this.#followsEnd = true;
    if (this.#newer === document.activeElement) this.#log.focus();
    this.#unread = 0;
    this.#newer.hidden = true;
    this.#scrollToEnd();
  }

  /** Once for all messages of a frame: each look at the height costs a layout. */
  #scrollToEnd() {
    if (this.#isScrolling) return;
    this.#isScrolling = true;
    requestAnimationFrame(() => {
      this.#isScrolling = false;
      if (!this.#followsEnd) return;
      this.#forgetOldest();
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#endTop = this.#log.scrollTop;
    });
  }
}

function text(message) {
  const made = element("p", "text", message);
  made.dir = "auto";
  return made;
}

function isAnnouncement(message) {
  return typeof message?.announcement === "string";
}

function place({ epoch, offset }) {
  return offset === undefined ? "" : `${epoch}:${offset}`;
}

/** Messages of one speaker in a row carry the name once. */
function joinToPrevious(item) {
  if (!item?.matches(".message")) return;
  const speaker = ({ classList, dataset }) => `${classList.contains("mine")} ${dataset.author}`;
  const before = item.previousElementSibling;
  const isJoined =
    before.matches(".message:not(.announcement)") && !item.matches(".announcement") && speaker(before) === speaker(item);
  item.classList.toggle("continued", isJoined);
}
