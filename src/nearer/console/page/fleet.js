// The whole fleet over the practice so far: rates with their intervals, curves, alarms.

import { byId, get, setText } from "/page/api.js";
import { path } from "/page/curve.js";

const WIDTH = 640;
const HEIGHT = 240;
const LEFT = 62;
const BOTTOM = 34;
const SVG = "http://www.w3.org/2000/svg";
const SMALL = [
  ["progress", "Predicted progress an episode", "steps"],
  ["length", "Episode length", "control steps"],
  ["entropy", "Entropy of the policy", "nats a decision"],
  ["change", "Policy change an iteration", "nats a decision"],
];
let shown = "";

export async function showFleet() {
  let view;
  try {
    view = await get("/fleet");
  } catch (error) {
    setText(byId("fleet-message"), error.message);
    return;
  }
  const text = JSON.stringify(view);
  if (text === shown) return;
  shown = text;
  setText(byId("fleet-message"), view.error ?? "");
  if (view.error) return;
  byId("fleet").hidden = !view.episodes;
  showNumbers(view);
  showAlarms(view);
  const main = byId("fleet-curve");
  main.replaceChildren(...successChart(view));
  main.setAttribute("aria-label", describe(view));
  byId("small-curves").replaceChildren(...SMALL.flatMap(([name, title, unit]) => {
    const points = view.curve.filter((point) => point[name] !== undefined);
    return points.length ? [smallChart(points, name, title, unit)] : [];
  }));
}

const percent = (value) => `${(100 * value).toFixed(0)} %`;
const rate = (one) => `${percent(one.value)} [${percent(one.low)}, ${percent(one.high)}], n = ${one.n}`;

function showNumbers(view) {
  const auditor = view.by === "person" ? "by people" : "by the simulator";
  const last = view.curve.at(-1);
  const rows = [
    [`Success, ${auditor}`, view.rates.success && rate(view.rates.success)],
    ["Detector's precision", view.rates.precision && rate(view.rates.precision)],
    ["Detector's recall", view.rates.recall && rate(view.rates.recall)],
    ["Detected, newest", last && rate(last)],
    ["Episodes", `${view.episodes.toLocaleString("en")}, ${view.episodes_an_hour.toLocaleString("en")} an hour`],
    ["Robot hours", view.robot_hours.toFixed(view.robot_hours < 10 ? 2 : 0)],
    ["Minutes in which people acted", String(view.human_minutes)],
    ["Resets by people", String(view.resets_by_people)],
    ["Faults", view.faults ? `${view.faults}, the last: ${view.last_fault}` : "none"],
  ];
  byId("fleet-numbers").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value || "not known yet";
    return [term, text];
  }));
}

function showAlarms(view) {
  byId("alarms").replaceChildren(...view.alarms.map((alarm) => {
    const item = document.createElement("li");
    item.textContent = alarm;
    return item;
  }));
  byId("alarms").hidden = !view.alarms.length;
}

function describe(view) {
  const last = view.curve.at(-1);
  const audit = view.audits.at(-1);
  return `Success over ${view.episodes} practice episodes: the detector's ${last ? rate(last) : "not known"}, ` +
    `the audits' ${audit ? rate(audit) : "not known"}`;
}

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function successChart(view) {
  const most = Math.max(1, ...view.curve.map((point) => point.episodes));
  const x = (episodes) => LEFT + ((WIDTH - LEFT - 12) * episodes) / most;
  const y = (value) => 10 + (HEIGHT - BOTTOM - 10) * (1 - value);
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((value) => [
    element("line", { class: "grid", x1: LEFT, x2: WIDTH - 12, y1: y(value), y2: y(value) }),
    element("text", { class: "tick", x: LEFT - 6, y: y(value) + 5, "text-anchor": "end" }, percent(value)),
  ]);
  const line = (name) => view.curve.map((point) => [x(point.episodes), y(point[name])]);
  if (view.curve.length) {
    const band = [...line("high"), ...line("low").toReversed()];
    parts.push(element("path", { class: "band", d: `${path(band)}Z` }));
    parts.push(element("path", { class: "line", d: path(line("value")) }));
  }
  for (const audit of view.audits) {
    const at = x(audit.episodes);
    parts.push(element("line", { class: "bar", x1: at, x2: at, y1: y(audit.low), y2: y(audit.high) }));
    parts.push(element("circle", { class: "audit", cx: at, cy: y(audit.value), r: 5 }));
  }
  parts.push(element("text", { class: "tick", x: LEFT, y: HEIGHT - 8 }, "0"));
  parts.push(element("text", { class: "tick", x: WIDTH - 12, y: HEIGHT - 8, "text-anchor": "end" },
    `${most.toLocaleString("en")} practice episodes`));
  return parts;
}

function smallChart(points, name, title, unit) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const last = points.at(-1)[name];
  caption.textContent = `${title}: ${last.toPrecision(3)} ${unit}`;
  const values = points.map((point) => point[name]);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const y = (value) => 58 - (56 * (value - low)) / (high - low || 1);
  const most = points.at(-1).episodes;
  const line = points.map((point) => [(240 * point.episodes) / most, y(point[name])]);
  const chart = element("svg", {
    class: "curve", viewBox: "0 0 240 60", preserveAspectRatio: "none", role: "img",
    "aria-label": caption.textContent,
  });
  chart.append(element("line", { class: "grid", x1: 0, x2: 240, y1: y(0), y2: y(0) }));
  chart.append(element("path", { class: "line", d: path(line) }));
  figure.append(caption, chart);
  return figure;
}
