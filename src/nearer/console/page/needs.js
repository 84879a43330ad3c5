// Who needs a person, and since when.

const SILENT_S = 15; // without a word a robot's process hangs or is gone
const LONG_RESET_S = 60;

export function needOf(robot, nowS, state) {
  if (state.finished) return "";
  const silentS = nowS - robot.written_s;
  const inStateS = nowS - robot.since_s;
  if (robot.asks) return `asks you, for ${duration(nowS - robot.asked_s)}`;
  if (robot.state === "faulty") return `faulty for ${duration(inStateS)}`;
  if (robot.state === "resetting" && inStateS > LONG_RESET_S) return `resetting for ${duration(inStateS)}`;
  // A robot that is held or waits for the policy has nothing new to say.
  if (robot.state === "practising" && silentS > SILENT_S) return `silent for ${duration(silentS)}`;
  return "";
}

// What the page must not hide: a robot without a word is not reached by Stop all.
export function silenceOf(robots, state) {
  const silent = state.num_robots - robots.length;
  if (state.finished || silent <= 0) return "";
  return `${silent} of ${state.num_robots} robots have said nothing yet. Either they are starting, or ` +
    "what they say does not arrive: then Stop all does not reach them either.";
}

export function sortedByNeed(robots) {
  const rank = (robot) => (robot.need ? 0 : robot.state === "stopped" ? 1 : 2);
  return robots.toSorted((one, other) => rank(one) - rank(other) || one.robot - other.robot);
}

export function statusOf(robots, state) {
  if (state.finished) return "Practice is finished";
  if (!robots.length) return "No robot has said anything yet";
  const needed = robots.filter((robot) => robot.need).length;
  if (needed) return needed === 1 ? "1 robot needs you" : `${needed} robots need you`;
  if (state.orders.stop_all) return "All robots are stopped";
  const stopped = robots.filter((robot) => robot.state === "stopped").length;
  return stopped ? `Nobody is needed, ${stopped} stopped` : "Nobody is needed";
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
