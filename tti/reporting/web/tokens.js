// Tokens coloured by activation.
"use strict";
const OUTSIDE = -128; // level of a position outside the story

/** The displayed text of a token: line breaks become visible, spaces stay. */
function tokenText(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

/** A context: `words`, their levels (-127 to 127, relative to the neuron's largest), and the index of the marked one. */
function contextLine(words, levels, mark, titles = null) {
  const line = el("span", { class: "context" });
  words.forEach((word, i) => {
    const level = levels[i] / 127;
    const [, space, text] = /^( ?)([^]*)$/.exec(word); // a coloured space would remain at the end of a line
    const token = el("span", { class: i === mark ? "token marked" : "token", title: titles ? titles[i] : null }, text ? tokenText(text) : "␣");
    if (Math.abs(level) > 0.02) {
      const colour = level > 0 ? "var(--active)" : "var(--negative)";
      token.style.backgroundColor = `color-mix(in srgb, ${colour} ${Math.round(Math.abs(level) * 78)}%, transparent)`;
    }
    line.append(i ? space : "", token);
  });
  return line;
}
