// What the page asks of the server, and what a person's click sends.

export async function post(path, body) {
  const answer = await fetch(path, { method: "POST", body });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

export async function get(path) {
  const answer = await fetch(path);
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

// Returns whether it is done; what is not done stands in the page's first lines.
export async function click(action, more = {}) {
  const body = JSON.stringify({ key: crypto.randomUUID(), action, ...more });
  for (let attempt = 0; ; attempt += 1) {
    try {
      await post("/clicks", body); // the same key: sent twice, done once
      return true;
    } catch (error) {
      if (!(error instanceof TypeError) || attempt === 4) { // TypeError: no server answers
        byId("details").textContent = `Not done: ${error.message}`;
        return false;
      }
      await new Promise((done) => setTimeout(done, 300));
    }
  }
}

export const byId = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
