/**
 * One room of the room protocol, over one WebSocket after the other.
 *
 * It reconnects with full jitter, resumes after the last publication it has seen, and sends each message with an
 * id until it is acknowledged: nothing is lost, nothing comes twice. It knows no DOM; it tells by events:
 *
 *   state        {name: "connecting" | "live" | "waiting" | "closed", retryAt?, code?, reason?}
 *   publication  {message, user?, offset?, epoch?}
 *   ack          {id, offset?, epoch?}
 *   refused      {id?, code, message}
 *   gap          {epoch, offset}, or null: something may be missing that the room does not keep
 *   presence     [{client, user?}, ...], everyone who is here
 */

const SHORTEST_WAIT_SECONDS = 0.5;
const LONGEST_WAIT_SECONDS = 20;
const ACK_TIMEOUT_MS = 10_000;
const STEADY_AFTER_MS = 5_000;
const MESSAGE_TOO_BIG = 1009;

export class RoomClient extends EventTarget {
  #url;
  #history;
  #socket = null;
  #position = null;
  #pending = new Map(); // id -> message, oldest first
  #members = new Map(); // client -> user
  #isUnnumbered = false;
  #attempt = 0;
  #openedAt = 0;
  #retryTimer = null;
  #ackTimer = null;
  #isClosed = true;

  constructor(url, { history = 50 } = {}) {
    super();
    this.#url = url;
    this.#history = history;
    globalThis.addEventListener("online", () => this.connectNow());
    // A socket may live on for minutes after its network is gone: do not trust it.
    globalThis.addEventListener("offline", () => this.#drop());
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.connectNow());
  }

  get isLive() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  open() {
    this.#isClosed = false;
    this.#connect();
  }

  close() {
    this.#isClosed = true;
    this.#forget(1000);
  }

  /** Connect at once where it would otherwise have waited for its turn. */
  connectNow() {
    if (!this.#isClosed && !this.#socket) this.#connect();
  }

  /** Publish `message`, as soon as there is a connection; return its id. The same id is published once. */
  send(message, id = randomId()) {
    this.#pending.set(id, message);
    if (this.isLive) this.#transmit(id, message);
    return id;
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#forget(1000);
    this.#tell("state", { name: "connecting" });
    const socket = new WebSocket(this.#address());
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  #address() {
    const url = new URL(this.#url, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("presence", "1");
    if (this.#position) url.searchParams.set("since", `${this.#position.epoch}:${this.#position.offset}`);
    else if (this.#history) url.searchParams.set("history", this.#history);
    return url;
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#members.clear();
    this.#tell("state", { name: "live" });
    if (this.#isUnnumbered) this.#tell("gap", null);
    for (const [id, message] of this.#pending) this.#transmit(id, message);
  }

  #transmit(id, message) {
    this.#socket.send(JSON.stringify({ message, id }));
    this.#ackTimer ??= setTimeout(() => this.#drop(), ACK_TIMEOUT_MS);
  }

  #hear(data) {
    const frame = JSON.parse(data);
    if (frame.payload) this.#publication(frame.payload);
    else if (frame.ack) this.#acknowledged(frame.ack);
    else if (frame.error) this.#refused(frame.error);
    else if (frame.gap) this.#gap(frame.gap);
    else if (frame.presence) this.#presence(frame.presence);
  }

  #publication(publication) {
    const { epoch, offset } = publication;
    this.#isUnnumbered = offset === undefined;
    if (!this.#isUnnumbered) {
      if (epoch === this.#position?.epoch && offset <= this.#position.offset) return;
      this.#position = { epoch, offset };
    }
    this.#tell("publication", publication);
  }

  #acknowledged(ack) {
    this.#settle(ack.id);
    this.#tell("ack", ack);
  }

  #refused(error) {
    this.#settle(error.id);
    this.#tell("refused", error);
  }

  #settle(id) {
    this.#pending.delete(id);
    clearTimeout(this.#ackTimer);
    this.#ackTimer = this.#pending.size ? setTimeout(() => this.#drop(), ACK_TIMEOUT_MS) : null;
  }

  #gap(position) {
    this.#position = position;
    this.#tell("gap", position);
  }

  #presence({ joined = [], left = [] }) {
    for (const { client, user } of joined) this.#members.set(client, user);
    for (const { client } of left) this.#members.delete(client);
    this.#tell("presence", Array.from(this.#members, ([client, user]) => ({ client, user })));
  }

  /** Give the socket up without waiting for its closing handshake, which may never come. */
  #drop() {
    if (!this.#socket) return;
    this.#forget(1000);
    this.#wait();
  }

  #forget(code) {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #closed(code, reason) {
    this.#forget(1000);
    if (code === MESSAGE_TOO_BIG) this.#refuseTheLargest(reason);
    if (isTerminal(code)) {
      this.#isClosed = true;
      this.#tell("state", { name: "closed", code, reason });
    } else {
      this.#wait();
    }
  }

  /** Sent again, it would close every connection to come. */
  #refuseTheLargest(reason) {
    const size = (id) => JSON.stringify(this.#pending.get(id)).length;
    const [largest] = [...this.#pending.keys()].sort((a, b) => size(b) - size(a));
    if (largest) this.#refused({ id: largest, code: MESSAGE_TOO_BIG, message: reason || "message too big" });
  }

  #wait() {
    if (Date.now() - this.#openedAt > STEADY_AFTER_MS) this.#attempt = 0;
    this.#attempt += 1;
    const seconds = waitSeconds(this.#attempt);
    this.#retryTimer = setTimeout(() => this.#connect(), seconds * 1000);
    this.#tell("state", { name: "waiting", retryAt: Date.now() + seconds * 1000 });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Return how long to wait before the nth attempt in a row: anything up to a ceiling that doubles each time. */
export function waitSeconds(attempt, random = Math.random) {
  const ceiling = Math.min(LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS * 2 ** attempt);
  return SHORTEST_WAIT_SECONDS + random() * (ceiling - SHORTEST_WAIT_SECONDS);
}

function isTerminal(code) {
  return (code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999);
}

/** `crypto.randomUUID` exists on https and localhost only; this works on any host. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
