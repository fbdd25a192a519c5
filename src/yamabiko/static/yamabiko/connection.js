/**
 * Rooms over one WebSocket.
 *
 *   import { connect } from "{% yamabiko_module %}";
 *
 *   const connection = connect();
 *   const room = connection.join("chat/lobby", { history: 50, presence: true });
 *   room.addEventListener("message", ({ detail }) => show(detail.by?.name, detail.data));
 *   room.addEventListener("members", ({ detail }) => showPeople(detail));
 *   await room.publish("hello");
 *   const number = await room.call("roll", { sides: 6 });
 *
 * A connection that breaks comes back by itself, and its rooms go on after the last message they told. What a room no
 * longer keeps is told as a "gap". Messages come in the room's order, none of them twice. What is asked for while there
 * is no connection waits for the next one. What was sent, and not answered before the connection broke, is refused as
 * LOST and not sent again: it may have been done. All that is refused rejects with a `Refusal`.
 *
 * It speaks JSON as clients of the Centrifugo protocol v2 do; it is not affiliated with that project.
 *
 * @typedef {{epoch: string, offset: number}} Position  a place in the messages of a room; offsets count 1, 2, 3 ...
 * @typedef {{client: string, user: string, name: string, info: any, roomInfo: any}} Member
 *   one connection: `client` is its own, `user` the id that all connections of a user share, "" for a guest
 * @typedef {{data: any, by: Member | null, offset: number | undefined, tags: Object<string, string>}} Publication
 *   one message: `by` is null if the server itself published it; `offset` is there if the room keeps messages
 */

/** Codes of refusals that are made here; the server's begin at 100, an application's at 400. */
export const LOST = 1, CLOSED = 2, TOO_MANY_WAITING = 3, LEFT = 4;

const SHORTEST_WAIT_SECONDS = 0.5;
const LONGEST_WAIT_SECONDS = 20;
const STEADY_AFTER_SECONDS = 5;
const CONNECT_SECONDS = 10;
const PING_MAY_BE_LATE_SECONDS = 10;
const RETRY_TOKEN_SECONDS = 5;
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one would go off at once
const MOST_WAITING = 100;
const TOKEN_EXPIRED = 109;
const SUBSCRIBES_AGAIN_FROM = 2500;

/**
 * Connect, and stay connected until `connection.close()`.
 *
 * @param {object} [options]
 * @param {string} [options.url]  by default /connection/websocket on the page's own site, where cookies say who it is
 * @param {() => Promise<string>} [options.token]  returns a new token: asked for at each attempt to connect, and well
 *   before the last one expires. If it throws it is asked again later; if it throws a `Refusal`, the connection closes.
 * @returns {Connection}
 */
export function connect(options) {
  const connection = new Connection(options);
  connection.open();
  return connection;
}

/** Why something was not done: `code` tells programs, `message` people. If it `isTemporary`, it may work later. */
export class Refusal extends Error {
  name = "Refusal";

  constructor(code, message, isTemporary = false) {
    super(message);
    this.code = code;
    this.isTemporary = isTemporary;
  }
}

/**
 * One visitor on one WebSocket after the other, in any number of rooms. Made by `connect`. Its events, by `detail`:
 *
 *   state    {name: "connecting" | "live" | "waiting" | "closed", retryAt?, code?, reason?}, as in `state`
 *   message  {data}: sent to this user, not to a room
 *   room     a Room that the server has put us in, before it tells anything
 */
export class Connection extends EventTarget {
  #url;
  #newToken;
  #state = { name: "closed" };
  #client = "";
  #wire = null;
  #memberships = new Map(); // by name: a Room, and what it does when something happens
  #waiting = []; // what was asked for and not sent yet, oldest first
  #backoff = new Backoff();
  #retryTimer;
  #refreshTimer;
  #listening;

  constructor({ url = "/connection/websocket", token = async () => undefined } = {}) {
    super();
    this.#url = new URL(url, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#newToken = token;
  }

  get state() {
    return this.#state;
  }

  /** What others see this connection as: `by.client` of its messages. */
  get client() {
    return this.#client;
  }

  /** @returns {Room[]} the rooms this connection is in, or is about to join. */
  get rooms() {
    return Array.from(this.#memberships.values(), ({ room }) => room);
  }

  /**
   * Join a room, as soon as there is a connection. The same name gives the same Room until it is left.
   *
   * @param {string} name
   * @param {object} [options]
   * @param {number} [options.history]  begin with so many earlier messages, at most 300
   * @param {Position} [options.since]  or with all messages after this position
   * @param {boolean} [options.presence]  follow who is there
   * @returns {Room}
   */
  join(name, options) {
    name = name.normalize("NFC");
    const isNew = !this.#memberships.has(name);
    const membership = this.#membership(name, options);
    if (isNew && this.#wire?.isOpen) membership.connected();
    return membership.room;
  }

  /**
   * Call a function of the server.
   *
   * @param {string} method
   * @param {object} [args]  by name
   * @returns {Promise<any>}  what it returns
   */
  async call(method, args = {}) {
    return (await this.#ask("rpc", { method, data: args })).data;
  }

  /** Connect at once: after it was closed, or where it would otherwise wait for its turn. */
  open() {
    if (!["closed", "waiting"].includes(this.#state.name)) return;
    this.#listening ??= this.#listenToNetwork();
    this.#connect();
  }

  /** End the connection; its rooms go on where they were if it is opened again. */
  close() {
    this.#finish(CLOSED, "closed by this page");
  }

  // From one attempt to the next

  async #connect() {
    clearTimeout(this.#retryTimer);
    const state = this.#be({ name: "connecting" });
    let token;
    try {
      token = await this.#newToken();
    } catch (error) {
      if (this.#state === state) this.#giveUpOrWait(error);
      return;
    }
    if (this.#state !== state) return;
    this.#wire = new Wire(this.#url, {
      opened: () => this.#introduce(token),
      pushed: (push) => this.#hear(push),
      ended: (code, reason) => this.#ended(code, reason),
    });
  }

  #introduce(token) {
    const granted = Array.from(this.#memberships, ([name, { grantedSince }]) => [name, grantedSince()]);
    const subs = Object.fromEntries(granted.filter(([, since]) => since));
    const refused = (refusal) => refusal.code === LOST || this.#giveUpOrWait(refusal);
    this.#send("connect", { token, name: "js", subs }, (result) => this.#welcome(result), refused);
    for (const { connected } of this.#memberships.values()) connected();
  }

  #welcome({ client, subs = {}, ping, pong, expires, ttl }) {
    this.#client = client;
    this.#wire.expectPings(ping, pong);
    this.#backoff.succeeded();
    this.#refreshBefore({ expires, ttl });
    for (const [name, { revoked }] of this.#memberships) if (!Object.hasOwn(subs, name)) revoked();
    for (const [name, result] of Object.entries(subs)) this.#grant(name, result);
    this.#be({ name: "live" });
    this.#flush();
  }

  #ended(code, reason) {
    this.#wire = null;
    clearTimeout(this.#refreshTimer);
    for (const { lost } of this.#memberships.values()) lost();
    if (isTerminal(code)) this.#finish(code, reason);
    else this.#wait();
  }

  #wait() {
    const wait = this.#backoff.nextSeconds() * 1000;
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#be({ name: "waiting", retryAt: Date.now() + wait });
  }

  #giveUpOrWait(error) {
    const isFinal = error instanceof Refusal && !error.isTemporary && error.code !== TOKEN_EXPIRED;
    if (isFinal) this.#finish(error.code, error.message);
    else if (this.#wire) this.#drop(error.message);
    else this.#wait();
  }

  #drop(reason) {
    this.#wire?.end(LOST, reason);
  }

  #finish(code, reason) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#refreshTimer);
    this.#listening?.abort();
    this.#listening = null;
    this.#wire?.close(reason);
    this.#wire = null;
    for (const { lost } of this.#memberships.values()) lost();
    for (const { refused } of this.#waiting.splice(0)) refused(closed(reason));
    this.#be({ name: "closed", code, reason });
  }

  #be(state) {
    this.#state = state;
    tell(this, "state", state);
    return state;
  }

  #listenToNetwork() {
    const listening = new AbortController();
    const now = () => this.#state.name === "waiting" && this.open();
    const on = (target, type, act) => target.addEventListener(type, act, { signal: listening.signal });
    on(globalThis, "online", now);
    on(document, "visibilitychange", () => document.hidden || now());
    // A socket may live on for minutes after its network is gone: do not trust it.
    on(globalThis, "offline", () => this.#drop("offline"));
    return listening;
  }

  // Tokens

  #refreshBefore({ expires, ttl }) {
    clearTimeout(this.#refreshTimer);
    if (expires) this.#refreshTimer = setTimeout(() => this.#refresh(), Math.min(ttl * 800, LONGEST_TIMER_MS));
  }

  async #refresh() {
    const wire = this.#wire;
    const done = (expiry) => this.#refreshBefore(expiry);
    const again = () => done({ expires: true, ttl: RETRY_TOKEN_SECONDS });
    try {
      const token = await this.#newToken();
      if (!token || wire !== this.#wire) return;
      this.#send("refresh", { token }, done, ({ isTemporary }) => isTemporary && again());
    } catch {
      if (wire === this.#wire) again();
    }
  }

  // What is asked for, and what comes

  #ask(kind, request, membership = null) {
    return new Promise((done, refused) => {
      this.#refuseToWait();
      this.#waiting.push({ kind, text: JSON.stringify(request), membership, done, refused });
      this.#flush();
    });
  }

  #refuseToWait() {
    const isFull = this.#waiting.length >= MOST_WAITING;
    if (this.#state.name === "closed") throw closed(this.#state.reason);
    if (isFull) throw new Refusal(TOO_MANY_WAITING, `${MOST_WAITING} others wait for the connection`, true);
  }

  #flush() {
    if (this.#state.name !== "live") return;
    const isReady = ({ membership }) => membership === null || membership.room.state === "joined";
    const ready = this.#waiting.filter(isReady);
    this.#waiting = this.#waiting.filter((command) => !isReady(command));
    for (const { kind, text, done, refused } of ready) this.#wire.ask(kind, text, done, refused);
  }

  #send(kind, request, done, refused) {
    if (this.#wire?.isOpen) this.#wire.ask(kind, JSON.stringify(request), done, refused);
  }

  #hear({ channel, message, subscribe, refresh, ...push }) {
    if (message) tell(this, "message", { data: message.data });
    else if (refresh) this.#refreshBefore(refresh);
    else if (subscribe) this.#grant(channel, subscribe);
    else this.#memberships.get(channel)?.heard(push);
  }

  #grant(name, result) {
    const isNew = !this.#memberships.has(name);
    const membership = this.#membership(name);
    if (isNew) tell(this, "room", membership.room);
    membership.granted(result);
  }

  #membership(name, options) {
    if (!this.#memberships.has(name)) {
      const membership = {};
      membership.room = new Room(name, options, {
        listen: (reactions) => Object.assign(membership, reactions),
        send: (...command) => this.#send(...command),
        ask: (kind, request) => this.#ask(kind, request, membership),
        joined: () => this.#flush(),
        left: (refusal) => this.#forget(name, membership, refusal),
      });
      this.#memberships.set(name, membership);
    }
    return this.#memberships.get(name);
  }

  #forget(name, membership, refusal) {
    this.#memberships.delete(name);
    const isIts = (command) => command.membership === membership;
    const refused = this.#waiting.filter(isIts);
    this.#waiting = this.#waiting.filter((command) => !isIts(command));
    for (const command of refused) command.refused(refusal);
  }
}

/**
 * A room, from joining it to leaving it. Made by `connection.join`. Its events, by `detail`:
 *
 *   message  a Publication
 *   members  Member[]: everyone who is here, each time that changes
 *   gap      the Position from which it goes on, or null: messages before it may be missing that the room does not keep
 *   joined   {data, isResumed}: anew after each break; it `isResumed` if nothing is missing
 *   left     {code, reason}: it was left (0), refused (a refusal's code), or ended by the server (from 2000)
 */
export class Room extends EventTarget {
  #name;
  #link;
  #history;
  #isPresenceWanted;
  #state = "joining";
  #isGranted = false;
  #wasJoined = false;
  #position;
  #held = null; // what comes before the earlier messages do
  #members = new Map(); // by client
  #changes = null; // to the members, since we asked who is there
  #isTelling = false;
  #backoff = new Backoff();
  #retryTimer;

  constructor(name, { history = 0, since = null, presence = false } = {}, link) {
    super();
    this.#name = name;
    this.#link = link;
    this.#history = history;
    this.#position = since;
    this.#isPresenceWanted = presence;
    link.listen({
      connected: () => this.#subscribe(),
      granted: (result) => this.#grant(result),
      grantedSince: () => this.#isGranted && this.#position && { recover: true, ...this.#position },
      revoked: () => this.#isGranted && this.#end(2000, "ended by the server"),
      heard: (push) => this.#hear(push),
      lost: () => this.#pause(),
    });
  }

  get name() {
    return this.#name;
  }

  /** @returns {"joining" | "joined" | "left"} */
  get state() {
    return this.#state;
  }

  /** @returns {Position | null} that of the last message told; null if the room keeps none. */
  get position() {
    return this.#position;
  }

  /** @returns {Member[]} */
  get members() {
    return [...this.#members.values()];
  }

  /**
   * Publish a message. It comes back as an event as well, as it does to everyone.
   *
   * @param {any} data  anything that JSON can hold
   * @returns {Promise<void>}  when it is accepted
   */
  async publish(data) {
    await this.#ask("publish", { channel: this.#name, data });
  }

  /**
   * Call a method of the room.
   *
   * @param {string} method
   * @param {object} [args]  by name
   * @returns {Promise<any>}  what it returns
   */
  async call(method, args = {}) {
    return (await this.#ask("rpc", { method: `${this.#name}:${method}`, data: args })).data;
  }

  /**
   * Read what the room keeps: the oldest messages, or those after `since`; in `reverse` the newest, or those before it.
   *
   * @param {{limit?: number, since?: Position, reverse?: boolean}} [options]
   * @returns {Promise<{publications: Publication[], position: Position}>}  with the room's newest position
   */
  async history({ limit = 50, since, reverse } = {}) {
    const page = await this.#ask("history", { channel: this.#name, limit, since, reverse });
    return { publications: (page.publications ?? []).map(publicationOf), position: positionOf(page) };
  }

  /** Leave; joining again gives another Room. */
  leave() {
    if (this.#state === "left") return;
    this.#link.send("unsubscribe", { channel: this.#name }, nothing, nothing);
    this.#end(0, "left by this page");
  }

  async #ask(kind, request) {
    if (this.#state === "left") throw new Refusal(LEFT, `you have left ${this.#name}`);
    return this.#link.ask(kind, request);
  }

  // Coming and going

  #subscribe() {
    if (this.#isGranted || this.#state !== "joining") return;
    clearTimeout(this.#retryTimer);
    const recovery = this.#position && { recover: true, ...this.#position };
    const request = { channel: this.#name, join_leave: this.#isPresenceWanted, ...recovery };
    this.#link.send("subscribe", request, (result) => this.#join(result), (refusal) => this.#refuse(refusal));
  }

  #grant(result) {
    this.#isGranted = true;
    this.#join(result);
  }

  #join(result) {
    if (this.#state === "left") return;
    const isFirst = !this.#wasJoined && !this.#position;
    const isResumed = Boolean(result.recovered);
    this.#wasJoined = true;
    this.#state = "joined";
    this.#backoff.succeeded();
    if (!isResumed) this.#position = positionOf(result);
    tell(this, "joined", { data: result.data, isResumed });
    if (!isFirst && !isResumed) tell(this, "gap", this.#position);
    if (isFirst) this.#askForEarlier();
    if (this.#isPresenceWanted) this.#askForMembers();
    for (const publication of result.publications ?? []) this.#take(publication);
    this.#link.joined();
  }

  #refuse({ code, message, isTemporary }) {
    if (code === LOST || this.#state !== "joining") return;
    if (isTemporary) this.#subscribeLater();
    else this.#end(code, message);
  }

  #subscribeLater() {
    this.#pause();
    this.#retryTimer = setTimeout(() => this.#subscribe(), this.#backoff.nextSeconds() * 1000);
  }

  /** Answers that are still on their way are for nobody any more. */
  #pause() {
    clearTimeout(this.#retryTimer);
    this.#state = "joining";
    this.#changes = null;
    if (this.#held) this.#beginAnew();
  }

  #beginAnew() {
    this.#wasJoined = false;
    this.#position = this.#held = null;
  }

  #end(code, reason) {
    clearTimeout(this.#retryTimer);
    this.#state = "left";
    this.#link.left(new Refusal(code || LEFT, `not in ${this.#name}: ${reason}`));
    tell(this, "left", { code, reason });
  }

  // Messages

  #hear({ pub, join, leave, unsubscribe }) {
    if (this.#state !== "joined") return;
    if (pub) this.#take(pub);
    else if (join || leave) this.#change(join, leave);
    else if (unsubscribe?.code >= SUBSCRIBES_AGAIN_FROM) this.#subscribeLater();
    else if (unsubscribe) this.#end(unsubscribe.code, unsubscribe.reason);
  }

  #take(publication) {
    if (this.#state !== "joined") return;
    if (this.#held) return void this.#held.push(publication);
    const { offset } = publication;
    if (offset && this.#position) {
      if (offset <= this.#position.offset) return;
      this.#position = { ...this.#position, offset };
    }
    tell(this, "message", publicationOf(publication));
  }

  /** Go back so many messages, and hold what comes until those are there; what comes twice is told once. */
  #askForEarlier() {
    const { epoch, offset } = this.#position ?? { offset: 0 };
    const limit = Math.min(this.#history, offset);
    if (!limit) return;
    this.#held = [];
    this.#position = { epoch, offset: offset - limit };
    const request = { channel: this.#name, limit, since: this.#position };
    const done = ({ publications = [] }) => this.#release(publications);
    this.#link.send("history", request, done, ({ code }) => code === LOST || this.#release([]));
  }

  #release(earlier) {
    if (this.#state !== "joined" || !this.#held) return;
    const held = this.#held;
    this.#held = null;
    for (const publication of [...earlier, ...held]) this.#take(publication);
  }

  // Members

  #askForMembers() {
    this.#changes = [];
    const done = ({ presence = {} }) => this.#list(Object.values(presence));
    this.#link.send("presence", { channel: this.#name }, done, () => (this.#changes = null));
  }

  /** Begin with who is there; what changed since we asked may or may not be in the list, so it is done again. */
  #list(present) {
    if (this.#state !== "joined" || !this.#changes) return;
    const changes = this.#changes;
    this.#changes = null;
    this.#members.clear();
    for (const info of present) this.#change({ info });
    for (const change of changes) this.#change(...change);
    this.#tellMembers();
  }

  #change(join, leave) {
    this.#changes?.push([join, leave]);
    if (join) this.#members.set(join.info.client, memberOf(join.info));
    else this.#members.delete(leave.info.client);
    this.#tellMembers();
  }

  /** Once for all changes that come together. */
  #tellMembers() {
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      tell(this, "members", this.members);
    });
  }
}

/** One WebSocket, from opening to end: replies find who asked, pings are answered, silence is an end too. */
class Wire {
  #socket;
  #on;
  #asked = new Map(); // by id: what to do with the reply
  #lastId = 0;
  #patienceSeconds = CONNECT_SECONDS;
  #answersPings = false;
  #silenceTimer;

  constructor(url, on) {
    this.#on = on;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = on.opened;
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code, reason }) => this.end(code, reason);
    this.#waitForMore();
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Send a command with `request`, in JSON. One of the two is called when its reply is heard, or on the end. */
  ask(kind, request, done, refused) {
    this.#lastId += 1;
    this.#asked.set(this.#lastId, { kind, done, refused });
    this.#socket.send(`{"id":${this.#lastId},"${kind}":${request}}`);
  }

  /** Expect to hear something every so many seconds; 0 or nothing said expects nothing. */
  expectPings(seconds, areAnswered) {
    this.#patienceSeconds = seconds ? seconds + PING_MAY_BE_LATE_SECONDS : Infinity;
    this.#answersPings = Boolean(areAnswered);
    this.#waitForMore();
  }

  /** Close without a word to anyone but those who wait for a reply. */
  close(reason) {
    clearTimeout(this.#silenceTimer);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    const refusal = new Refusal(LOST, `the connection ended before the answer: ${reason || "it was lost"}`);
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    for (const { refused } of asked) refused(refusal);
  }

  end(code, reason) {
    this.close(reason);
    this.#on.ended(code, reason);
  }

  #hear(data) {
    this.#waitForMore();
    for (const line of data.trim().split("\n")) if (this.#socket.onmessage) this.#take(JSON.parse(line));
  }

  #waitForMore() {
    clearTimeout(this.#silenceTimer);
    if (this.#patienceSeconds === Infinity) return;
    this.#silenceTimer = setTimeout(() => this.end(LOST, "silence"), this.#patienceSeconds * 1000);
  }

  #take({ id, push, ...reply }) {
    if (id) this.#answer(id, reply);
    else if (push?.disconnect) this.end(push.disconnect.code, push.disconnect.reason);
    else if (push) this.#on.pushed(push);
    else if (this.#answersPings) this.#socket.send("{}");
  }

  #answer(id, { error, ...reply }) {
    const { kind, done, refused } = this.#asked.get(id);
    this.#asked.delete(id);
    if (error) refused(new Refusal(error.code, error.message, Boolean(error.temporary)));
    else done(reply[kind]);
  }
}

/** How long to wait before the next attempt in a row: anything up to a ceiling that doubles each time. */
class Backoff {
  #attempt = 0;
  #steadyAt = Infinity;

  succeeded() {
    this.#steadyAt = Date.now() + STEADY_AFTER_SECONDS * 1000;
  }

  nextSeconds() {
    this.#attempt = Date.now() >= this.#steadyAt ? 1 : this.#attempt + 1;
    this.#steadyAt = Infinity;
    const ceiling = Math.min(LONGEST_WAIT_SECONDS, SHORTEST_WAIT_SECONDS * 2 ** this.#attempt);
    return SHORTEST_WAIT_SECONDS + Math.random() * (ceiling - SHORTEST_WAIT_SECONDS);
  }
}

function closed(reason) {
  return new Refusal(CLOSED, `the connection is closed: ${reason}`);
}

function isTerminal(code) {
  return (code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999);
}

function positionOf({ epoch, offset = 0 }) {
  return epoch ? { epoch, offset } : null;
}

function publicationOf({ data, info, offset, tags = {} }) {
  return { data, by: info ? memberOf(info) : null, offset, tags };
}

function memberOf({ client, user = "", conn_info: info = null, chan_info: roomInfo = null }) {
  return { client, user, name: info?.name ?? "", info, roomInfo };
}

function tell(target, type, detail) {
  target.dispatchEvent(new CustomEvent(type, { detail }));
}

function nothing() {}
