"use strict";
// The least that shows the status: it follows /v1/events with the token of the form or of the address.
const byId = (id) => document.getElementById(id);

async function follow(token) {
  const response = await fetch("/v1/events", { headers: { Authorization: `Bearer ${token}` } });
  if (!response.ok) {
    byId("phase").textContent = (await response.json()).error.message;
    return response.status !== 401;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return true;
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) show(JSON.parse(data.slice(6)));
    }
  }
}

function show(status) {
  byId("phase").textContent = `${status.phase ?? "not installed"} – ${status.daemon.role}, ${status.daemon.health.state}`;
  byId("status").textContent = JSON.stringify(status, null, 2);
}

async function keep(token) {
  for (let again = true; again;) {
    again = await follow(token).catch(() => true);
    if (again) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

byId("open").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(byId("token").value.trim());
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname);
  keep(given);
}
