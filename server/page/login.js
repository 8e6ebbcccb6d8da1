// The login: the token is posted once and becomes a cookie that no script can read. STOP works here too, for anybody.

const $ = (id) => document.getElementById(id);
const say = (text) => { $("said").textContent = text; };

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(5000) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail ?? `status ${answer.status}`);
  return told;
}

async function logIn(event) {
  event.preventDefault();
  const token = $("token").value;
  $("token").value = "";
  try {
    await post("v1/login", { token });
    location.replace("./");
  } catch (error) { say(error.message); }
}

async function stop() {
  try {
    say(`stopped: ${(await post("v1/trigger/disarm", { stop: true, reason: "STOP on the login page" })).state}`);
  } catch (error) { say(`STOP WAS NOT ANSWERED (${error.message}). Use the hardware stop.`); }
}

$("form").onsubmit = logIn;
$("stop").onclick = stop;
window.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); stop(); } }, true);
