/** The page of a room: joins the client of the protocol to what one sees. */

import { Composer } from "./composer.js";
import { fill } from "./elements.js";
import { MessageList } from "./messages.js";
import { showPeople } from "./people.js";
import { RoomClient } from "./room.js";

const find = (id) => document.getElementById(id);
const words = JSON.parse(find("words").textContent);
const { socket, user: me, longest } = find("main").dataset;
const title = document.title;
const SIGNED_OUT = 4501; // in another window, perhaps: who we are now, the page will say

const room = new RoomClient(socket);
const messages = new MessageList({
  log: find("log"),
  empty: find("empty"),
  newer: find("newer"),
  me,
  words,
  onRetry: say,
  onEdit: (message) => composer.edit(message),
});
const composer = new Composer({
  form: find("composer"),
  text: find("text"),
  count: find("count"),
  longest: Number(longest),
  words,
  onSend: (message) => say(undefined, message),
});

let shownState = { name: "connecting" };
let unseen = 0;

room.addEventListener("state", ({ detail }) => showState(detail));
room.addEventListener("publication", ({ detail }) => heard(detail));
room.addEventListener("ack", ({ detail }) => messages.acknowledged(detail));
room.addEventListener("refused", ({ detail }) => messages.refused(detail));
room.addEventListener("gap", () => messages.note(words.gap));
room.addEventListener("presence", ({ detail }) => {
  showPeople({ list: find("people"), count: find("people-count") }, detail, { me, words });
});
document.addEventListener("visibilitychange", () => document.hidden || showUnseen(0));
find("try-now").addEventListener("click", () => room.open());
find("people-button").addEventListener("click", () => showBeside(!find("beside").matches(".open")));
document.addEventListener("keydown", ({ key }) => key === "Escape" && showBeside(false));
setInterval(showWait, 250);
room.open();

function say(id, message) {
  const sent = room.send(message, id);
  messages.pending(sent, message);
}

function heard(publication) {
  messages.publication(publication);
  if (document.hidden) showUnseen(unseen + 1);
}

/** On a narrow screen only: on a wide one it is always there. */
function showBeside(isOpen) {
  find("beside").classList.toggle("open", isOpen);
  find("people-button").setAttribute("aria-expanded", isOpen);
}

function showUnseen(count) {
  unseen = count;
  document.title = count ? `(${count}) ${title}` : title;
}

function showState(state) {
  if (state.code === SIGNED_OUT) location.reload();
  const isNextAttempt = shownState.name === "waiting" && state.name === "connecting";
  shownState = state;
  find("state").dataset.state = state.name;
  find("main").classList.toggle("cut-off", state.name !== "live");
  find("state-text").textContent = sentence(state);
  find("try-now").hidden = !["waiting", "closed"].includes(state.name);
  if (!isNextAttempt) speak(state.name === "waiting" ? words.lost : sentence(state));
}

/** Have a screen reader say it: once, not at every attempt and every second of the wait. */
function speak(text) {
  if (find("state-spoken").textContent !== text) find("state-spoken").textContent = text;
}

function showWait() {
  if (shownState.name === "waiting") find("state-text").textContent = sentence(shownState);
}

function sentence({ name, retryAt, reason }) {
  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  return fill(words[name], { seconds, reason });
}
