// The page's life: one stream of figures from this sidecar, asked for again whenever it ends.

import { html } from "/charts.js";
import { notices, showBig, showCharts, showNotices, showRecent, showSpaces, showStores } from "/figures.js";

const HOUR = 3600, WAIT_MS = [500, 1000, 2000, 4000, 5000], SILENT_MS = 12000;
const state = { namespace: new URLSearchParams(location.search).get("namespace") ?? "", figures: null, points: [], texts: new Map(),
  wantsText: false, token: sessionStorage.getItem("token") ?? "", tries: 0, request: null, heard: 0, replica: "" };
const link = document.getElementById("link"), form = document.getElementById("sign-in"), select = document.getElementById("namespace");

function say(kind, text) {
  link.className = `link ${kind}`;
  const holder = document.getElementById("link-text");
  if (holder.textContent !== text) holder.textContent = text;
}

async function listen() {
  const request = new AbortController();
  state.request?.abort();
  state.request = request;
  state.heard = Date.now();
  const headers = state.token ? { authorization: `Bearer ${state.token}` } : {};
  const query = new URLSearchParams({ namespace: state.namespace, ...(state.wantsText ? { text: "1" } : {}) });
  try {
    const answer = await fetch(`/api/figures?${query}`, { headers, signal: request.signal, cache: "no-store" });
    if (answer.status === 401) return signIn(await answer.text());
    if (!answer.ok) throw new Error((await answer.text()).trim() || String(answer.status));
    form.hidden = true;
    await read(answer.body.getReader(), request);
    if (request === state.request) again("the sidecar ended the connection");
  } catch (error) {
    if (request === state.request && !request.signal.aborted) again(error.message);
  }
}

async function read(reader, request) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || request !== state.request) return;
    state.heard = Date.now();
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const at = event.indexOf("\ndata: ");
      take(event.slice("event: ".length, at), JSON.parse(event.slice(at + "\ndata: ".length)));
    }
  }
}

function take(name, data) {
  if (name === "figures") {
    state.tries = 0;
    if (state.replica && state.replica !== data.replica_id) state.points = [];
    state.replica = data.replica_id;
    state.figures = data;
    say("live", "live");
  } else if (name === "points") {
    const known = state.points.length ? state.points[state.points.length - 1][0] : 0;
    state.points.push(...data.filter((p) => p[0] > known));
    while (state.points.length && state.points[0][0] < Date.now() / 1000 - HOUR) state.points.shift();
  } else if (name === "texts") {
    for (const one of data) { state.texts.delete(one.name); state.texts.set(one.name, one); }
    while (state.texts.size > 8) state.texts.delete(state.texts.keys().next().value);
  } else if (name === "gone") choose("");
  else if (name === "refused") signIn(data);
  // Whoever marks text to copy it keeps what is marked.
  if (state.figures && !String(getSelection())) show();
}

function show() {
  const { figures } = state;
  document.title = figures.rates.mat === null ? "retrieval-draft" : `${figures.rates.mat.toFixed(2)} tokens per step · retrieval-draft`;
  options(figures.namespaces.map((n) => n.name));
  showNotices(notices(figures));
  showBig(figures, state.points);
  showCharts(figures, state.points);
  showStores(figures);
  showSpaces(figures, choose);
  showRecent(figures, state.texts, state.wantsText, toggle);
  const hours = figures.uptime_seconds / 3600;
  const up = hours >= 1 ? `${hours.toFixed(1)} h` : `${Math.floor(figures.uptime_seconds / 60)} min`;
  document.getElementById("footer").replaceChildren(`retrieval-draft ${figures.version} · replica ${figures.replica_id} · up ${up} · counts are since this sidecar started · `,
    html("a", { href: "/metrics" }, "metrics for Prometheus"));
}

function options(names) {
  const wanted = ["", ...new Set([...(state.namespace ? [state.namespace] : []), ...names])];
  if (wanted.join("\n") !== [...select.options].map((o) => o.value).join("\n")) {
    select.replaceChildren(...wanted.map((name) => html("option", { value: name }, name || "all together")));
  }
  select.value = state.namespace;
}

function choose(namespace) {
  state.namespace = namespace;
  state.points = [];
  state.texts.clear();
  select.value = namespace;
  history.replaceState(null, "", namespace ? `?namespace=${encodeURIComponent(namespace)}` : "/");
  listen();
}

function toggle(wantsText) {
  state.wantsText = wantsText;
  state.texts.clear();
  show();
  listen();
}

function again(why) {
  const wait = WAIT_MS[Math.min(state.tries++, WAIT_MS.length - 1)];
  say("lost", "disconnected");
  showNotices([{ kind: "bad", title: "The sidecar does not answer.", list: [],
    text: `Engines go on without drafts. Is it running? retrieval-draft serve --web ${location.host}. This page asks again by itself; what it shows is from before. (${why})` }]);
  setTimeout(listen, wait);
}

function signIn(why) {
  state.request?.abort();
  state.request = null;
  say("waiting", "not signed in");
  document.getElementById("sign-in-problem").textContent = state.token ? why.trim() : "";
  sessionStorage.removeItem("token");
  state.token = "";
  form.hidden = false;
  document.getElementById("token").focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("token");
  state.token = field.value.trim();
  sessionStorage.setItem("token", state.token);
  field.value = "";
  listen();
});
select.addEventListener("change", () => choose(select.value));
// Half-open connections say nothing at all.
setInterval(() => { if (state.request && Date.now() - state.heard > SILENT_MS) { say("lost", "silent"); listen(); } }, 2000);
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => state.figures && show(), 150); });
listen();
