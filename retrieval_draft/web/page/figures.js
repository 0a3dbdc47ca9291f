// What is shown of the figures: from the sidecar's data to the page's parts.

import { barChart, format, html, keys, reliabilityChart, table, timeChart } from "/charts.js";

const TIERS = ["context", "learned", "corpus"];
const SOURCES = ["match", "order1", "order2", "order3", "order4", "recycling", "stand", "corpus", "dense", "model", "order0"];
const HOUR = 3600;

export const colourOf = (name) => {
  const tier = TIERS.indexOf(name);
  if (tier >= 0 && name !== "corpus") return tier;
  const at = SOURCES.indexOf(name);
  return at < 0 ? 6 : at;
};
const dashedOf = (name) => SOURCES.indexOf(name) >= 7;
const ratio = (part, whole) => (whole ? part / whole : null);
const last = (points) => points[points.length - 1];

// From the first point, or an hour ago: a page of a young sidecar is no empty one.
function span(points, now) {
  const first = points.length ? points[0][0] : now;
  return { from: Math.min(Math.max(first, now - HOUR), now - 60), to: now };
}

function replaced(id, ...parts) {
  document.getElementById(id).replaceChildren(...parts);
}

// Three numbers, and their last hour.
export function showBig(figures, points) {
  const { rates } = figures;
  const gain = rates.mat === null ? "no step yet" : "plain decoding gains 1";
  const kept = figures.drafted ? `${format.whole(figures.accepted)} of ${format.whole(figures.drafted)} drafted tokens kept` : "nothing verified yet";
  const step = figures.stages.find((stage) => stage.name === "step");
  const p99 = step ? step.p99_us : null;
  const typical = step ? `of a whole step; half take ${format.us(step.p50_us)} or less` : "no step yet";
  const [value, unit] = p99 === null ? ["–", ""] : format.us(p99).split(" ");
  card("mat", "Tokens per step", format.number(rates.mat), "", gain, points, 2, format.number, 0, 1);
  card("acceptance", "Acceptance", rates.acceptance_rate === null ? "–" : (100 * rates.acceptance_rate).toFixed(1), rates.acceptance_rate === null ? "" : "%", kept, points, 3, format.percent, 2, 0);
  card("p99", "Draft time, p99", value, unit, typical, points, 4, format.us, 4, 0);
}

function card(id, title, value, unit, said, points, column, show, colour, low) {
  const body = document.getElementById(id);
  const number = html("p", { class: "value" }, value, html("span", { class: "unit" }, unit));
  const parts = [html("h2", {}, title), number, html("p", { class: "soft" }, said)];
  const series = [{ name: title, colour, points: points.map((p) => [p[0], p[column]]) }];
  const now = points.length ? Math.max(last(points)[0], Date.now() / 1000) : Date.now() / 1000;
  if (points.length) {
    const label = `${title}, the last hour`;
    parts.push(timeChart(width(body), { title: label, series, show, ...span(points, now), height: 92, low, least: low }));
    parts.push(asTable(`${id}-table`, ["time", title.toLowerCase()], points, (p) => [clock(p[0]), show(p[column])]));
  }
  keepOpen(body, parts);
}

const width = (element) => Math.max(240, element.clientWidth - 30 || 330);
const clock = (t) => new Date(1000 * t).toLocaleTimeString("en-GB");

function asTable(id, columns, rows, cells) {
  const shown = rows.slice(-60).reverse();
  const more = rows.length > shown.length ? ` (the newest ${shown.length} of ${rows.length})` : "";
  return html("details", { id }, html("summary", {}, "As a table"), table(columns, shown.map(cells), `${columns.join(", ")}${more}`));
}

// New parts for an element; tables that were open stay so, and whoever stood in them goes on there.
function keepOpen(element, parts) {
  const open = new Set([...element.querySelectorAll("details[open]")].map((d) => d.id));
  const focused = document.activeElement, holder = element.contains(focused) ? focused.closest("details") : null;
  const tag = focused ? focused.tagName : "";
  const scrolled = new Map([...element.querySelectorAll("details[open] .scroll")].map((s) => [s.closest("details").id, s.scrollLeft]));
  element.replaceChildren(...parts);
  for (const details of element.querySelectorAll("details")) {
    if (open.has(details.id)) details.open = true;
    const area = details.querySelector(".scroll");
    if (area && scrolled.has(details.id)) area.scrollLeft = scrolled.get(details.id);
  }
  if (holder && holder.id) {
    const again = document.getElementById(holder.id);
    const target = again && (tag === "SUMMARY" ? again.querySelector("summary") : again.querySelector(".scroll"));
    if (target) target.focus({ preventScroll: true });
  }
}

function figure(id, title, caption, draw, list, details, empty) {
  const holder = document.getElementById(id) ?? document.getElementById("charts").appendChild(html("figure", { class: "card", id }));
  const parts = [html("h2", {}, title), html("p", { class: "caption" }, caption)];
  if (empty) parts.push(html("p", { class: "none" }, empty));
  else parts.push(draw(width(holder)), ...(list ? [list] : []), details);
  keepOpen(holder, parts);
}

export function showCharts(figures, points) {
  const now = points.length ? Math.max(last(points)[0], figures.unix_seconds) : figures.unix_seconds;
  const idle = points.length ? "" : "Nothing was counted in the last hour.";
  hitRates("by-tier", "Hit rate by tier", "Of the steps in which a tier drafted, the share where a token of it was kept.", points, 7, now, idle);
  hitRates("by-source", "Hit rate by source", "The same by source: the predictor that proposed the token.", points, 8, now, idle);
  pays(figures);
  acceptance("by-match", "Acceptance by match length", "How many of the last tokens agreed with a place seen before; 0 is fewer than 3.", figures.rows.match_lengths, "tokens that agree", 2);
  acceptance("by-depth", "Acceptance by depth", "By the token's place behind the last committed one.", figures.rows.depths.filter((r) => Number(r.name) <= 16), "depth in the tree", 0);
  reliability(figures);
  journal(points, now, idle);
  stages(figures);
}

function hitRates(id, title, caption, points, column, now, empty) {
  const order = column === 7 ? TIERS : SOURCES;
  const names = [...new Set(points.flatMap((p) => Object.keys(p[column])))].sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const series = names.map((name) => ({ name, colour: column === 7 ? TIERS.indexOf(name) : colourOf(name), dashed: column === 8 && dashedOf(name),
    points: points.map((p) => [p[0], p[column][name] ?? null]) }));
  const list = keys(series.map((one) => {
    const known = one.points.filter((p) => p[1] !== null);
    return { ...one, text: `${one.name} ${known.length ? format.percent(last(known)[1]) : "–"}` };
  }));
  const draw = (w) => timeChart(w, { title, series, show: format.percent, ...span(points, now), least: 0.1 });
  const rows = asTable(`${id}-table`, ["time", ...names], points, (p) => [clock(p[0]), ...names.map((n) => format.percent(p[column][n] ?? null))]);
  figure(id, title, caption, draw, list, rows, empty);
}

function pays(figures) {
  const { tiers, sources } = figures.rows, steps = figures.drafted_steps;
  const rows = [...tiers.map((r) => ({ ...r, kind: "tier" })), ...sources.map((r) => ({ ...r, kind: "source" }))];
  const bars = rows.map((r) => ({ name: r.name.replace("recycling", "recycl."), value: ratio(r.accepted, steps),
    colour: r.kind === "tier" ? TIERS.indexOf(r.name) : colourOf(r.name), said: `${format.number(ratio(r.accepted, steps))} kept per drafted step` }));
  const title = "Where kept tokens come from";
  const details = html("details", { id: "pays-table" }, html("summary", {}, "As a table"), table(
    ["", "", "steps", "hit rate", "drafted", "kept", "acceptance", "kept per step"],
    rows.map((r) => [r.name, r.kind, format.whole(r.steps), format.percent(ratio(r.hits, r.steps)), format.whole(r.drafted), format.whole(r.accepted),
      format.percent(ratio(r.accepted, r.drafted)), format.number(ratio(r.accepted, steps))]), title));
  figure("pays", title, "Tokens kept per drafted step, tiers first, then sources. A token that several proposed counts for each.",
    (w) => barChart(w, { title, bars, show: format.number }), null, details, rows.length ? "" : "No tree was verified yet.");
}

function acceptance(id, title, caption, rows, axis, colour) {
  const all = rows.reduce((sum, r) => sum + r.drafted, 0);
  const bars = rows.map((r) => ({ name: r.name, value: ratio(r.accepted, r.drafted), colour,
    said: `${format.percent(ratio(r.accepted, r.drafted))} of ${format.whole(r.drafted)} nodes, ${format.percent(ratio(r.drafted, all))} of all` }));
  const details = html("details", { id: `${id}-table` }, html("summary", {}, "As a table"), table(
    [axis, "trees", "drafted", "kept", "acceptance"],
    rows.map((r) => [r.name, format.whole(r.steps), format.whole(r.drafted), format.whole(r.accepted), format.percent(ratio(r.accepted, r.drafted))]), title));
  figure(id, title, caption, (w) => barChart(w, { title, bars, show: format.percent, axis }), null, details, rows.length ? "" : "No tree was verified yet.");
}

function reliability(figures) {
  const rows = figures.rows.tenths.filter((r) => r.drafted), most = Math.max(1, ...rows.map((r) => r.drafted));
  const points = rows.map((r) => ({ x: r.expected / r.drafted, y: r.accepted / r.drafted, weight: r.drafted / most,
    said: `${format.percent(r.expected / r.drafted)} promised, ${format.percent(r.accepted / r.drafted)} kept, ${format.whole(r.drafted)} nodes` }));
  const title = "Are the probabilities right?", error = figures.rates.calibration_error, over = figures.rates.expected_over_kept;
  const sum = over === null ? "" : ` All together promise ${format.percent(Math.abs(over - 1))} too ${over >= 1 ? "much" : "little"}; mean distance ${format.percent(error)}.`;
  const details = html("details", { id: "reliability-table" }, html("summary", {}, "As a table"), table(
    ["promised", "kept", "nodes"], rows.map((r) => [format.percent(r.expected / r.drafted), format.percent(r.accepted / r.drafted), format.whole(r.drafted)]), title));
  figure("reliability", title, `Promised probability (across) against the share kept (up); on the diagonal they are right.${sum}`,
    (w) => reliabilityChart(w, { title, points }), null, details, rows.length ? "" : "No tree was verified yet.");
}

function journal(points, now, empty) {
  const series = [
    { name: "records not applied yet", colour: 4, points: points.map((p) => [p[0], p[5]]) },
    { name: "sequences evicted", colour: 1, dashed: true, points: points.map((p) => [p[0], p[6]]) },
  ];
  const title = "Lag and evictions";
  const rows = asTable("journal-table", ["time", "lag, records", "evicted"], points, (p) => [clock(p[0]), format.whole(p[5]), format.whole(p[6])]);
  figure("journal", title, "What was learned and is not in use yet, and sequences that gave up their memory, of 30 s.",
    (w) => timeChart(w, { title, series, show: format.whole, ...span(points, now), least: 4 }), keys(series), rows, empty);
}

function stages(figures) {
  const named = { take: "take: tokens", draft: "draft: trees", cut: "cut: to budget", step: "step: all of it", settle: "settle: journal, after" };
  const rows = figures.stages.map((s) => [named[s.name] ?? s.name, format.us(s.p50_us), format.us(s.p99_us)]);
  const bars = figures.stages.map((s) => ({ name: s.name, value: s.p50_us, whole: s.p99_us, colour: 4, said: `half within ${format.us(s.p50_us)}, 99 % within ${format.us(s.p99_us)}` }));
  const details = html("details", { id: "stages-table" }, html("summary", {}, "As a table"), table(["stage", "p50", "p99"], rows, "Draft time by stage"));
  figure("stages", "Draft time by stage", "Solid: half of the steps take so long or less. Pale: 99 % do.",
    (w) => barChart(w, { title: "Draft time by stage", bars, show: format.us }), null, details, rows.length ? "" : "No step yet.");
}

export function showStores(figures) {
  const s = figures.states;
  const age = s.snapshot_unix_seconds ? `${format.whole((figures.unix_seconds - s.snapshot_unix_seconds) / 60)} min ago` : "none";
  const entries = [
    ["Open sequences", format.whole(s.sequences)], ["Context", format.bytes(s.context_bytes)],
    ["Learned", format.bytes(s.learned_bytes)], ["Tokens learned", format.whole(s.learned_tokens)],
    ["Corpus", format.bytes(s.corpus_bytes)], ["Store", figures.connected ? "connected" : "away", figures.connected ? "" : "bad"],
    ["Lag", `${format.whole(s.lag_records)} records`], ["Dropped", format.whole(s.dropped_records), s.dropped_records ? "warn" : ""],
    ["Evicted", format.whole(s.evicted_sequences), ""], ["Resyncs", format.whole(s.resyncs)],
    ...(figures.namespace ? [["Snapshot", age]] : []),
  ];
  const list = html("dl", {}, ...entries.map(([name, value, kind]) => html("div", {}, html("dt", {}, name), html("dd", kind ? { class: kind } : {}, value))));
  const parts = [html("h2", {}, "Stores"), list];
  if (figures.corpora.length) {
    parts.push(html("details", { id: "corpora-table" }, html("summary", {}, `Corpora (${figures.corpora.length})`), table(["corpus", "documents", "tokens", "size"],
      figures.corpora.map((c) => [c.name, format.whole(c.documents), format.whole(c.tokens), format.bytes(c.bytes)]), "Corpora")));
  }
  const holder = document.querySelector("#stores .card") ?? document.getElementById("stores").appendChild(html("div", { class: "card" }));
  keepOpen(holder, parts);
}

export function showSpaces(figures, choose) {
  const rows = figures.namespaces.map((n) => {
    const name = html("button", { type: "button", "aria-pressed": String(n.name === figures.namespace) }, n.name);
    name.addEventListener("click", () => choose(n.name));
    return [name, format.whole(n.steps), format.number(n.mat), format.percent(n.acceptance_rate), format.us(n.p99_us),
      format.whole(n.sequences), format.bytes(n.bytes), format.whole(n.lag_records), n.problems ? String(n.problems) : "–"];
  });
  const focused = document.activeElement?.closest?.("#spaces button")?.textContent;
  const scrolled = document.querySelector("#spaces .scroll")?.scrollLeft ?? 0;
  const shown = rows.length ? table(["namespace", "steps", "tokens/step", "acceptance", "p99", "open", "size", "lag", "problems"], rows, "Namespaces") : html("p", { class: "none" }, "There is none yet.");
  replaced("spaces", html("div", { class: "card" }, html("h2", {}, "Namespaces"), shown));
  const area = document.querySelector("#spaces .scroll");
  if (area) area.scrollLeft = scrolled;
  if (focused) [...document.querySelectorAll("#spaces button")].find((b) => b.textContent === focused)?.focus({ preventScroll: true });
}

// Empty and degraded states, each with what to do about it.
export function notices(figures) {
  const found = [];
  const say = (kind, title, text, list = []) => found.push({ kind, title, text, list });
  if (!figures.namespaces.length) say("", "Nothing drafts here yet.", "Start a worker, or an engine with one of the adapters: its namespace appears by itself. To try it: retrieval-draft worker --demo, then retrieval-draft generate \"def main(\".");
  else if (!figures.steps) say("", "No step was counted yet.", "A namespace is there, and no engine has asked for a draft since this sidecar started.");
  else if (!figures.drafted_steps && figures.steps > 100) say("warn", "No draft was verified.", "Steps are counted, but no verdict about a tree came back: the engine must send verified_steps and accepted with its next request.");
  if (!figures.connected && figures.namespaces.length) say("bad", "The store is away.", "Drafting goes on from memory; what is learned waits, and is dropped when the queue is full. Look at Redis: retrieval-draft doctor --redis URL.");
  if (figures.states.dropped_records) say("warn", `${format.whole(figures.states.dropped_records)} records were dropped.`, "They were not learned: the store was away for too long, or is too slow for what is written.");
  if (figures.problems.length) say("warn", "Not as it should be:", "", figures.problems);
  const over = figures.rates.expected_over_kept;
  if (figures.accepted > 2000 && over !== null && Math.abs(over - 1) > 0.4) say("warn", "Probabilities are off.", "The budget rule trusts them. They are learned again within some thousand tokens; if this stays, look at the namespace's prior (retrieval-draft calibrate).");
  return found;
}

export function showNotices(list) {
  const text = JSON.stringify(list), holder = document.getElementById("notices");
  // A screen reader would hear the same again and again.
  if (holder.dataset.said === text) return;
  holder.dataset.said = text;
  holder.replaceChildren(...list.map((one) => html("div", { class: `notice ${one.kind}` }, html("b", {}, one.title), one.text,
    ...(one.list.length ? [html("ul", {}, ...one.list.map((p) => html("li", {}, p)))] : []))));
}

export function showRecent(figures, texts, wanted, toggle) {
  const holder = document.getElementById("recent");
  if (!holder.firstChild) {
    holder.append(html("div", { class: "card" }, html("h2", {}, "Recent output"), html("div", { id: "recent-body" })));
  }
  const body = document.getElementById("recent-body");
  if (!figures.can_show_text) {
    if (body.dataset.state !== "off") {
      body.dataset.state = "off";
      body.replaceChildren(html("p", { class: "soft" }, "This sidecar shows no text. To see which source drafted every token, start it with ", html("code", {}, "serve --show-tokens TOKENIZER"), "."));
    }
    return;
  }
  if (!document.getElementById("show-text")) {
    const box = html("input", { type: "checkbox", id: "show-text" });
    box.checked = wanted;
    box.addEventListener("change", () => toggle(box.checked));
    body.dataset.state = "on";
    body.replaceChildren(html("p", {}, html("label", { for: "show-text" }, box, " Show what was written, coloured by the source that drafted it")), html("div", { id: "recent-keys" }), html("div", { id: "recent-texts" }));
  }
  const area = document.getElementById("recent-texts");
  if (!wanted) { area.replaceChildren(); document.getElementById("recent-keys").replaceChildren(); return; }
  const used = SOURCES.filter((name) => [...texts.values()].some((t) => t.pieces.some((p) => p[1] === name)));
  document.getElementById("recent-keys").replaceChildren(keys(used.map((name) => ({ name, colour: colourOf(name), solid: true }))), html("p", { class: "small" }, "Not underlined: what the model added itself."));
  if (!texts.size) { area.replaceChildren(html("p", { class: "none" }, "Nothing was written since this page asks.")); return; }
  const newest = [...texts.values()].sort((a, b) => b.name - a.name).slice(0, 4);
  area.replaceChildren(...newest.map((one) => html("div", { class: "output", tabindex: "0", role: "region", "aria-label": `Sequence ${one.name}, ${one.steps} steps` },
    ...one.pieces.map(([text, source]) => (source ? html("span", { class: `c${colourOf(source)}`, title: source }, text) : text)))));
}

