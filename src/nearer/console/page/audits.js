// The questions of the audits: a clip, and two keys. Nothing here says what the detector said.

import { byId, click, get, setText } from "/page/api.js";
import { Strip } from "/page/strip.js";

const KEYS = { y: "yes", n: "no", u: "cannot tell" };
let strip = null;
let questions = [];
let asked = -1; // how many there were when they were last read
let answering = false;

export async function showQuestions(state) {
  const section = byId("audit");
  const operates = state.role === "operate";
  const badge = byId("to-questions");
  badge.hidden = !state.questions || !operates;
  setText(badge, state.questions === 1 ? "1 question" : `${state.questions} questions`);
  section.hidden = !state.questions || !operates;
  if (section.hidden || state.questions === asked || answering) return;
  asked = state.questions;
  try {
    questions = await get("/questions");
  } catch (error) {
    setText(byId("audit-left"), error.message);
    return;
  }
  showFirst();
}

function showFirst() {
  const [question] = questions;
  if (!question) return;
  setText(byId("audit-instruction"), question.instruction);
  setText(byId("audit-left"),
    `Robot ${question.robot}, question ${question.question + 1}; ${questions.length} to answer. ` +
    "Yes, if the instruction is done at some moment of the clip.");
  if (byId("audit").dataset.question === String(question.question)) return;
  byId("audit").dataset.question = question.question;
  strip ??= new Strip(byId("audit-clip"));
  byId("audit-no-clip").hidden = true;
  const url = `/clips/${question.iteration}/${question.seed}.jpg`;
  strip.load(url);
  fetch(url, { method: "HEAD" }).then((answer) => { byId("audit-no-clip").hidden = answer.ok; });
}

async function answer(text) {
  const [question] = questions;
  if (!question || answering) return;
  answering = true;
  const { robot, question: number } = question;
  if (await click("answer", { robot, question: number, answer: text })) {
    questions = questions.slice(1);
    asked = questions.length;
    showFirst();
    if (!questions.length) byId("audit").hidden = true;
  }
  answering = false;
}

for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => answer(button.dataset.answer));
}
byId("to-questions").addEventListener("click", () => byId("audit").focus());
byId("audit").addEventListener("keydown", (event) => {
  const text = KEYS[event.key.toLowerCase()];
  if (text && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    answer(text);
  }
});
