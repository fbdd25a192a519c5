/** The page of two rooms: one connection, and a panel for each room. */

import { Composer } from "./composer.js";
import { fill } from "./elements.js";
import { MessageList } from "./messages.js";
import { showPeople } from "./people.js";

const find = (id) => document.getElementById(id);
const words = JSON.parse(find("words").textContent);
const { module, user: me, longest } = find("main").dataset;
const { connect } = await import(module); // where the site serves it, only the site knows

const SIGNED_OUT = 4501; // in another window, perhaps: who we are now, the page will say
const connection = connect();
const own = new Set(); // what we are called, on one connection after the other
const panels = Array.from(document.querySelectorAll("[data-room]"), panelOf);

connection.addEventListener("state", ({ detail }) => detail.name === "live" && own.add(connection.client));
connection.addEventListener("state", showState);
find("try-now").addEventListener("click", () => connection.open());
setInterval(showState, 250);
showState();

/** Join a panel's room; return what the page asks of it. */
function panelOf(section) {
  const part = (selector) => section.querySelector(selector);
  const { room: name } = section.dataset;
  const messages = new MessageList({
    log: part(".log"),
    empty: part(".empty"),
    newer: part(".newer"),
    me,
    words,
    onRetry: say,
    onEdit: (message) => composer.edit(message),
  });
  const composer = new Composer({
    form: part(".composer"),
    text: part("textarea"),
    count: part(".count"),
    longest: Number(longest),
    words,
    onSend: (message) => say(crypto.getRandomValues(new Uint32Array(2)).join("-"), message),
  });
  const panel = { members: () => (room.state === "left" ? [] : room.members) };
  let room = enter({ history: 50 });

  part(".roll").addEventListener("click", roll);
  part(".door").addEventListener("click", () => (room.state === "left" ? comeBack() : room.leave()));
  return panel;

  function enter(options) {
    const entered = connection.join(name, { presence: true, ...options });
    entered.addEventListener("message", ({ detail }) => messages.publication(shown(detail)));
    entered.addEventListener("gap", () => messages.note(words.gap));
    entered.addEventListener("members", ({ detail }) => showMembers(detail));
    entered.addEventListener("left", ({ detail }) => showLeft(detail));
    showDoor(true);
    return entered;
  }

  function comeBack() {
    room = enter({ since: room.position });
  }

  async function say(id, message) {
    messages.pending(id, message);
    try {
      await room.publish(message);
      messages.acknowledged({ id });
    } catch (refusal) {
      messages.refused({ id, message: refusal.message });
    }
  }

  async function roll() {
    try {
      await room.call("roll", { sides: 6 });
    } catch (refusal) {
      messages.refused({ message: refusal.message });
    }
  }

  function showMembers(members) {
    part(".here").textContent = fill(words.here, { count: countPeople(members) });
    showEveryone();
  }

  function showLeft({ code, reason }) {
    messages.note(code ? reason : words.left);
    part(".here").textContent = "";
    showDoor(false);
    showEveryone();
  }

  function showDoor(isInside) {
    section.classList.toggle("outside", !isInside);
    part(".door").textContent = isInside ? words.leave : words.enter;
    part(".roll").disabled = part(".send").disabled = !isInside;
  }
}

/** What the list of messages shows of a publication. Our own has no place there: by its words it finds its draft. */
function shown({ data, by, offset }) {
  const place = own.has(by?.client) ? {} : { epoch: "", offset };
  return { message: data?.rolled ? rollOf(data) : data, user: by?.name || undefined, ...place };
}

function rollOf({ rolled: number, sides, by }) {
  return { announcement: fill(words.rolled, { name: by || words.guest, number, sides }) };
}

/** A person who is in both rooms, or has several tabs, is one; so is a guest who is in both. */
function showEveryone() {
  const everyone = new Map(panels.flatMap(({ members }) => members()).map(({ client, name }) => [client, name]));
  const members = Array.from(everyone, ([client, user]) => ({ client, user }));
  showPeople({ list: find("people"), count: find("people-count") }, members, { me, words });
}

function countPeople(members) {
  return new Set(members.map(({ user, client }) => user || client)).size;
}

function showState() {
  const { name, retryAt, code, reason } = connection.state;
  if (code === SIGNED_OUT) location.reload();
  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  const text = fill(words[name], { seconds, reason });
  find("state").dataset.state = name;
  find("main").classList.toggle("cut-off", name !== "live");
  find("state-text").textContent = text;
  find("try-now").hidden = !["waiting", "closed"].includes(name);
  if (name !== "connecting") speak(name === "waiting" ? words.lost : text);
}

/** Have a screen reader say it: once, not at every attempt and every second of the wait. */
function speak(text) {
  if (find("state-spoken").textContent !== text) find("state-spoken").textContent = text;
}
