// The console: shows what robots say, and sends what a person clicks. Text from robots is only ever
// set as text, never as markup.

import { byId, click, post, setText } from "/page/api.js";
import { showQuestions } from "/page/audits.js";
import { bandPath, linePath, scale } from "/page/curve.js";
import { showEpisodes } from "/page/episodes.js";
import { showFleet } from "/page/fleet.js";
import { needOf, silenceOf, sortedByNeed, statusOf } from "/page/needs.js";

const tiles = new Map(); // robot -> its element
let state = null; // the newest message
let behindS = 0; // how far this clock is ahead of the robots'
let needed = 0;
let events = null;

async function signIn(token) {
  try {
    await post("/sign-in", token);
    byId("sign-in").hidden = true;
    connect();
  } catch (error) {
    byId("sign-in").hidden = false;
    byId("refused").textContent = error.message;
  }
}

function connect() {
  events?.close();
  events = new EventSource("/robots");
  events.onmessage = (message) => {
    const said = JSON.parse(message.data);
    if (said.error) {
      showUnreadable(said.error);
      return;
    }
    state = { ...said.state, role: said.role };
    const newest = Math.max(0, ...state.robots.map((robot) => robot.written_s));
    if (newest) behindS = Math.min(behindS, Date.now() / 1000 - newest);
    show();
  };
  events.onerror = () => {
    byId("status").textContent = "No connection to the console";
    if (events.readyState === EventSource.CLOSED) askToSignIn(); // refused; else it tries again
  };
}

async function askToSignIn() {
  const answer = await fetch("/ledger.csv", { method: "HEAD" }).catch(() => null);
  if (answer && answer.status !== 401) {
    connect();
    return;
  }
  if (!answer) {
    setTimeout(askToSignIn, 1000);
    return;
  }
  byId("status").textContent = "Sign in";
  byId("sign-in").hidden = false;
  byId("token").focus();
}

// Tiles would show what was; Stop all stays: the robots may act nevertheless.
function showUnreadable(error) {
  state = null;
  document.title = "(!) nearer";
  document.querySelector("header").classList.add("need");
  setText(byId("status"), "The run cannot be read");
  setText(byId("details"), error);
  setText(byId("silence"), "");
  byId("robots").hidden = true;
}

function show() {
  if (!state) return;
  byId("robots").hidden = false;
  const nowS = Date.now() / 1000 - behindS;
  const robots = state.robots.map((robot) => ({ ...robot, need: needOf(robot, nowS, state) }));
  const calling = robots.filter((robot) => robot.need).length;
  if (calling > needed) beep();
  needed = calling;
  document.title = `${calling ? `(${calling}) ` : ""}nearer: ${state.run}`;
  document.querySelector("header").classList.toggle("need", calling > 0);
  setText(byId("status"), statusOf(robots, state));
  setText(byId("details"), detailsOf(robots));
  setText(byId("silence"), silenceOf(robots, state));
  const operates = state.role === "operate";
  byId("stop-all").hidden = !operates || state.finished;
  byId("resume-all").hidden = !operates || !(state.orders.stop_all || state.orders.stopped.length);
  const list = byId("robots");
  sortedByNeed(robots).forEach((robot, place) => {
    const tile = tiles.get(robot.robot) ?? newTile(robot.robot);
    fill(tile, robot, operates);
    if (list.children[place] !== tile) list.insertBefore(tile, list.children[place] ?? null);
  });
  byId("notes").hidden = false;
  byId("note-form").querySelector("button").hidden = !operates;
  byId("note").disabled = !operates;
  showChoice(operates);
  showQuestions(state);
  showLedger();
}

function showChoice(operates) {
  byId("choice").hidden = !operates || state.finished || !state.robots.length;
  const wanted = state.orders.instructions.join("\n");
  const box = byId("instructions");
  if (box.dataset.wanted !== wanted && document.activeElement !== box) {
    box.value = wanted;
    box.dataset.wanted = wanted;
  }
  const refused = new Set(state.robots.map((robot) => robot.refused).filter(Boolean));
  setText(byId("refusals"), [...refused].map((why) => `Not practised: ${why}`).join(" "));
}

function detailsOf(robots) {
  const steps = robots.reduce((sum, robot) => sum + robot.steps, 0);
  const episodes = robots.reduce((sum, robot) => sum + robot.episodes_today, 0);
  const detected = robots.reduce((sum, robot) => sum + robot.detected_today, 0);
  return `${state.run}: ${robots.length} robots, today ${episodes} episodes, ` +
    `${detected} successes detected; ${steps.toLocaleString("en")} control steps since it started`;
}

function newTile(robot) {
  const tile = byId("tile").content.firstElementChild.cloneNode(true);
  tile.querySelector(".name").textContent = `Robot ${robot}`;
  tile.querySelector(".toggle").addEventListener("click", () => {
    const stopped = state.orders.stopped.includes(robot);
    click(stopped ? "resume" : "stop", { robot });
  });
  for (const button of tile.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () =>
      click("end", { robot, episode: shown(robot).episode, verdict: button.dataset.verdict }));
  }
  tile.querySelector(".done").addEventListener("click", () =>
    click("done", { robot, asked_s: shown(robot).asked_s }));
  const image = tile.querySelector(".image");
  image.addEventListener("error", () => image.toggleAttribute("hidden", true));
  image.addEventListener("load", () => {
    image.hidden = false;
    tile.querySelector(".no-image").hidden = true;
  });
  tiles.set(robot, tile);
  return tile;
}

const shown = (number) => state.robots.find((robot) => robot.robot === number);

function fill(tile, robot, operates) {
  tile.classList.toggle("need", Boolean(robot.need));
  tile.classList.toggle("stopped", robot.state === "stopped");
  tile.classList.toggle("idle", robot.state === "waiting" || robot.state === "resetting");
  setText(tile.querySelector(".state"), robot.need || robot.state);
  setText(tile.querySelector(".instruction"), robot.instruction);
  const image = tile.querySelector(".image");
  image.alt = `camera of robot ${robot.robot}`;
  const source = `/robots/${robot.robot}.jpg?${robot.written_s}`;
  const isNew = image.getAttribute("src") !== source;
  if (isNew && (image.complete || !image.getAttribute("src"))) image.src = source; // one at a time
  const curve = tile.querySelector(".curve");
  const scaled = scale(robot.steps_to_go, robot.spread, robot.threshold_steps);
  curve.querySelector(".line").setAttribute("d", linePath(scaled));
  curve.querySelector(".band").setAttribute("d", bandPath(scaled));
  const line = curve.querySelector(".threshold");
  line.setAttribute("y1", scaled.threshold);
  line.setAttribute("y2", scaled.threshold);
  const d = robot.steps_to_go.at(-1);
  setText(tile.querySelector(".numbers"), numbersOf(robot, d));
  curve.setAttribute("aria-label", `predicted ${robot.unit} to go, now ${d === undefined ? "unknown" : d.toFixed(1)}`);
  const asks = tile.querySelector(".asks");
  asks.hidden = !robot.asks;
  setText(asks, robot.asks);
  tile.querySelector(".done").hidden = !robot.asks;
  for (const buttons of tile.querySelectorAll(".buttons")) buttons.hidden = !operates || state.finished;
  setText(tile.querySelector(".toggle"), state.orders.stopped.includes(robot.robot) ? "Go on" : "Stop");
}

function numbersOf(robot, d) {
  const lines = [];
  if (d !== undefined) {
    lines.push(`${d.toFixed(1)} ${robot.unit} to go (success: ${robot.threshold_steps?.toFixed(1)})`);
  }
  lines.push(`episode ${robot.episode}, step ${robot.step}, policy ${robot.policy_version}`);
  lines.push(`today ${robot.episodes_today} episodes, ${robot.detected_today} detected`);
  if (robot.periods) {
    lines.push(`${((100 * robot.missed) / robot.periods).toFixed(1)} % of control periods missed`);
  }
  return lines.join("\n");
}

function showLedger() {
  const list = byId("ledger");
  if (list.dataset.newest === (state.ledger[0]?.key ?? "")) return;
  list.dataset.newest = state.ledger[0]?.key ?? "";
  list.replaceChildren(...state.ledger.map((entry) => {
    const item = document.createElement("li");
    const at = new Date(entry.at_s * 1000).toLocaleTimeString("en-GB");
    const whom = entry.robot === null ? "" : `, robot ${entry.robot}`;
    const note = entry.note ? `: ${entry.note}` : "";
    item.textContent = `${at} ${entry.action}${whom}${note}`;
    return item;
  }));
}

function beep() {
  try {
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    tone.frequency.value = 660;
    tone.connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.25);
  } catch { /* a browser without sound */ }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state?.role === "operate") {
    event.preventDefault();
    click("stop all");
  }
});
byId("stop-all").addEventListener("click", () => click("stop all"));
byId("resume-all").addEventListener("click", () => click("resume all"));
byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("token").value);
});
byId("note-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const note = byId("note").value;
  if (note.trim()) click("note", { note });
  byId("note").value = "";
});
byId("choice-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const instructions = byId("instructions").value.split("\n").map((one) => one.trim()).filter(Boolean);
  byId("instructions").dataset.wanted = "";
  click("instructions", { instructions });
});
setInterval(show, 1000); // how long somebody has waited
setInterval(() => {
  if (state) showFleet();
  if (state) showEpisodes();
}, 3000);

const inLink = new URLSearchParams(location.hash.slice(1)).get("token");
if (inLink) {
  history.replaceState(null, "", "/"); // a browser never sends what follows #, nor keeps it now
  signIn(inLink);
} else {
  askToSignIn();
}
