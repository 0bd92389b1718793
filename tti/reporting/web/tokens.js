// Tokens coloured by activation.
"use strict";
const OUTSIDE = -128; // of the story

/** What a token looks like: line breaks are shown, spaces stay. */
function tokenText(text) {
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

/** A context: `words`, their levels (-127 to 127 of the neuron's largest), and which is marked. */
function contextLine(words, levels, mark, titles = null) {
  const line = el("span", { class: "context" });
  words.forEach((word, i) => {
    const level = levels[i] / 127;
    const [, space, text] = /^( ?)([^]*)$/.exec(word); // a coloured space would be left over where a line breaks
    const token = el("span", { class: i === mark ? "token marked" : "token", title: titles ? titles[i] : null }, text ? tokenText(text) : "␣");
    if (Math.abs(level) > 0.02) {
      const colour = level > 0 ? "var(--active)" : "var(--negative)";
      token.style.backgroundColor = `color-mix(in srgb, ${colour} ${Math.round(Math.abs(level) * 78)}%, transparent)`;
    }
    line.append(i ? space : "", token);
  });
  return line;
}
