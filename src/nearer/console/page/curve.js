// Paths of curves: of any points, and of predicted steps-to-go in a box of 240 by 60.

const WIDTH = 240;
const HEIGHT = 60;

export function scale(means, spreads, threshold) {
  const top = Math.max(1, threshold ?? 0, ...means.map((mean, i) => mean + (spreads[i] ?? 0))) * 1.05;
  const y = (value) => HEIGHT - (HEIGHT * Math.max(0, value)) / top;
  const x = (i) => (means.length > 1 ? (WIDTH * i) / (means.length - 1) : WIDTH);
  return {
    line: means.map((mean, i) => [x(i), y(mean)]),
    upper: means.map((mean, i) => [x(i), y(mean + (spreads[i] ?? 0))]),
    lower: means.map((mean, i) => [x(i), y(mean - (spreads[i] ?? 0))]),
    threshold: threshold === null ? -10 : y(threshold),
  };
}

export const linePath = ({ line }) => path(line);

export function bandPath({ upper, lower }) {
  return upper.length ? `${path([...upper, ...lower.toReversed()])}Z` : "";
}

export function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
