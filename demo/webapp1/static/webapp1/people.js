/** Who is here. A person with several tabs counts once; guests have no name and are counted. */

import { avatar, element, fill } from "./elements.js";

const MOST_NAMED = 30;

export function showPeople({ list, count }, members, { me, words }) {
  const names = [...new Set(members.map(({ user }) => user).filter(Boolean))];
  names.sort((a, b) => (b === me) - (a === me) || a.localeCompare(b));
  const guests = members.filter(({ user }) => !user).length;
  const rows = names.slice(0, MOST_NAMED).map((name) => person(name, name === me ? fill(words.me, { name }) : name));
  if (names.length > MOST_NAMED) rows.push(element("li", "more", fill(words.more, { count: names.length - MOST_NAMED })));
  if (guests) rows.push(person(undefined, fill(words.guests, { count: guests })));
  list.replaceChildren(...rows);
  count.textContent = fill(words.here, { count: names.length + guests });
}

function person(user, label) {
  const row = element("li");
  row.append(avatar(user), element("bdi", "", label));
  return row;
}
