/** Small pieces of the page. */

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function button(label, onClick) {
  const made = element("button", "quiet small", label);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

/** Return the circle that stands for a user; one without a name is a guest. */
export function avatar(user) {
  const made = element("span", user ? "avatar" : "avatar guest", user ? firstLetter(user) : "");
  made.setAttribute("aria-hidden", "true");
  if (user) made.style.setProperty("--hue", hue(user));
  return made;
}

/** Put values into a translated sentence: fill("{count} here", {count: 3}). */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

function firstLetter(user) {
  return [...new Intl.Segmenter().segment(user)][0].segment.toLocaleUpperCase();
}

function hue(user) {
  let sum = 0;
  for (const character of user) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum;
}
