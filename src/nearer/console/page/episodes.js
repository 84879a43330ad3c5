// What was practised, to look at again: d with its spread, rewards, how it ended, and its clip.

import { byId, get, setText } from "/page/api.js";
import { bandPath, linePath, path, scale } from "/page/curve.js";
import { FRAMES, Strip } from "/page/strip.js";

let strip = null;
let listed = "";
let chosen = null; // the episode that is shown

export async function showEpisodes() {
  if (!byId("episodes").open) return;
  let episodes;
  try {
    episodes = await get("/episodes");
  } catch (error) {
    setText(byId("episode-message"), error.message);
    return;
  }
  const newest = `${episodes.length} ${episodes[0]?.episode}`;
  if (newest === listed) return;
  listed = newest;
  setText(byId("episode-message"), episodes.length ? "" : "No episode has been practised yet");
  byId("episode-list").replaceChildren(...episodes.map((episode) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${episode.episode}: ${episode.instruction || "no instruction"} ` +
      `(robot ${episode.robot}, ${episode.ended}, ${episode.length} decisions` +
      `${episode.filmed ? ", filmed" : ""})`;
    button.addEventListener("click", () => showEpisode(episode.episode));
    item.append(button);
    return item;
  }));
}

async function showEpisode(number) {
  try {
    chosen = await get(`/episodes/${number}`);
  } catch (error) {
    setText(byId("episode-message"), error.message);
    return;
  }
  byId("episode").hidden = false;
  strip ??= new Strip(byId("episode-clip"), moveTo);
  byId("episode-clip").hidden = true;
  byId("episode-no-clip").hidden = chosen.filmed;
  setText(byId("episode-title"), `Episode ${chosen.episode}: ${chosen.instruction}`);
  setText(byId("episode-message"), `Robot ${chosen.robot}, iteration ${chosen.iteration + 1}, ended by ` +
    `${chosen.ended} after ${chosen.length} decisions; d from ${chosen.first_d.toFixed(1)} to ` +
    `${chosen.last_d.toFixed(1)} steps`);
  const scaled = scale(chosen.steps_to_go, chosen.steps_to_go_std, null);
  byId("episode-d").querySelector(".line").setAttribute("d", linePath(scaled));
  byId("episode-d").querySelector(".band").setAttribute("d", bandPath(scaled));
  byId("episode-d").setAttribute("aria-label", byId("episode-message").textContent);
  byId("episode-reward").querySelector(".line").setAttribute("d", rewardPath(chosen.reward));
  const slider = byId("episode-slider");
  slider.max = chosen.steps_to_go.length - 1;
  if (chosen.filmed) strip.load(`/episodes/${number}.jpg`);
  showMoment(0);
}

// Rewards around a line at zero, in a box of 240 by 60.
function rewardPath(rewards) {
  const most = Math.max(1e-6, ...rewards.map(Math.abs));
  return path(rewards.map((reward, i) =>
    [(240 * i) / Math.max(1, rewards.length - 1), 30 - (28 * reward) / most]));
}

function moveTo(frame) {
  if (chosen) showMoment(Math.round((frame / (FRAMES - 1)) * (chosen.steps_to_go.length - 1)));
}

function showMoment(row) {
  const slider = byId("episode-slider");
  slider.value = row;
  const x = (240 * row) / Math.max(1, chosen.steps_to_go.length - 1);
  for (const id of ["episode-d", "episode-reward"]) {
    const cursor = byId(id).querySelector(".cursor");
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  }
  setText(byId("episode-moment"),
    `decision ${chosen.decisions[row]}: d ${chosen.steps_to_go[row].toFixed(1)} steps, ` +
    `standard deviation ${chosen.steps_to_go_std[row].toFixed(1)}, reward ${chosen.reward[row].toFixed(2)}`);
}

byId("episode-slider").addEventListener("input", () => {
  if (!chosen) return;
  const row = Number(byId("episode-slider").value);
  strip.playing = false;
  strip.show(Math.round((row / Math.max(1, chosen.steps_to_go.length - 1)) * (FRAMES - 1)));
  showMoment(row);
});
byId("episode-play").addEventListener("click", () => { strip.playing = true; });
byId("episodes").addEventListener("toggle", showEpisodes);
