// Shows one case at a time and sends what the annotator does. Texts enter the page as text, never as markup.
"use strict";

const token = location.hash.slice(1);
const $ = (id) => document.getElementById(id);
const app = { state: null, guideline: null, isBusy: false, failed: null, watch: { since: 0, spent: 0 } };

const remembered = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); } catch { /* private windows forget */ } },
};

async function call(path, body) {
  const options = { headers: { "X-Relgrade-Token": token }, cache: "no-store" };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const reply = await fetch(path, options);
  const content = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(content.error), { status: reply.status });
  return content;
}

// --- what is shown

function paragraphs(place, text) {
  place.replaceChildren(...text.trim().split(/\n\s*\n/).map((part) => {
    const line = document.createElement("p");
    const colon = part.indexOf(":");
    if (colon > 0 && colon < 24) {  // "Relevant: ..."
      const head = document.createElement("strong");
      head.textContent = part.slice(0, colon + 1);
      line.append(head, part.slice(colon + 1));
    } else {
      line.textContent = part;
    }
    return line;
  }));
}

function showGuideline(guideline) {
  app.guideline = guideline;
  $("rubric").textContent = guideline.rubric;
  paragraphs($("rules"), guideline.text);
  paragraphs($("guideline-text"), guideline.text);
  const isGraded = guideline.choices.length > 2;
  $("choices").classList.toggle("graded", isGraded);
  $("choices").replaceChildren(...guideline.choices.map((choice) => {
    const button = document.createElement("button");
    const key = document.createElement("kbd");
    key.textContent = choice.value;
    button.type = "button";
    button.className = "answer";
    button.dataset.value = choice.value;
    button.setAttribute("aria-keyshortcuts", String(choice.value));
    button.append(choice.name, key);
    button.addEventListener("click", () => answer(choice.value));
    return button;
  }));
  const keys = [...guideline.choices.map((c) => [c.value, c.name]), ["s", "Skip: put the pair aside"],
    ["u", "Undo the last answer or skip"], ["g", "Show the guideline"], ["?", "Show these keys"]];
  $("key-list").replaceChildren(...keys.flatMap(([key, text]) => {
    const term = document.createElement("dt"), cap = document.createElement("kbd"), about = document.createElement("dd");
    cap.textContent = key;
    term.append(cap);
    about.textContent = text;
    return [term, about];
  }));
}

function showPeople(names, current) {
  $("annotator").replaceChildren(...names.map((name) => new Option(name, name, false, name === current)));
  $("annotator").disabled = names.length < 2;
}

function timeLeft(seconds) {
  if (seconds === null || seconds <= 0) return "";
  return seconds < 90 ? ", about a minute left" : `, about ${Math.round(seconds / 60)} min left`;
}

function showCount(state) {
  const n = document.createElement("b");
  n.textContent = state.n_answered;
  const skipped = state.n_skipped ? `, ${state.n_skipped} skipped` : "";
  $("count").replaceChildren(n, ` of ${state.n_cases}${skipped}${timeLeft(state.seconds_left)}`);
  $("bar").max = state.n_cases;
  $("bar").value = state.n_answered + state.n_skipped;
}

function showCase(found) {
  $("query").textContent = found.query;
  const titled = /^title: (.*)(?:\n([\s\S]*))?$/.exec(found.document);
  $("title").hidden = !titled;
  $("title").textContent = titled ? titled[1] : "";
  const text = titled ? titled[2] ?? "" : found.document;
  $("document").textContent = text.trim() ? text : "(no text)";
  $("document").classList.toggle("blank", !text.trim());
  $("scroller").scrollTop = 0;
  scrollTo(0, 0);
  app.watch = { since: performance.now(), spent: 0 };
}

function showEnd(state) {
  const all = state.n_skipped === 0;
  $("finish-head").textContent = all ? "All pairs are judged" : `${state.n_skipped} skipped, the rest is judged`;
  $("finish-text").textContent =
    `${state.n_answered} answers by ${state.annotator} are stored.\nYou can close this page and stop the command; ` +
    "relgrade audit report says what they mean.";
  $("revisit").hidden = all;
  $("revisit").textContent = `Look again at ${state.n_skipped}`;
  $("undo-last").hidden = !state.can_undo;
}

function show(state, { said = "" } = {}) {
  const wasDone = app.state && !app.state.case;
  app.state = state;
  app.failed = null;
  $("problem").hidden = true;
  showCount(state);
  const found = state.case;
  $("work").hidden = $("actions").hidden = !found;
  $("finish").hidden = Boolean(found);
  $("undo").disabled = !state.can_undo;
  if (found) showCase(found); else showEnd(state);
  if (!found && !wasDone) $("finish-head").focus();
  if (found && wasDone) $("scroller").focus();
  const place = found ? `Pair ${state.n_answered + state.n_skipped + 1} of ${state.n_cases}. Query: ${found.query}` : "All pairs are judged.";
  $("spoken").textContent = `${said} ${place}`.trim();
}

function showProblem(error) {
  const lost = error.status === undefined;
  $("problem-text").textContent = lost
    ? "Not stored: the command that serves this page does not answer. Start it again the same way and open the address it prints; earlier answers are safe."
    : `Not stored: ${error.message}.`;
  $("retry").hidden = false;
  $("problem").hidden = false;
}

// --- what the annotator does

async function act(path, body, said) {
  if (app.isBusy || !app.state) return;
  app.isBusy = true;
  try {
    show(await call(path, { annotator: app.state.annotator, ...body }), { said });
  } catch (error) {
    if (error.status === 409) {  // a second window got there first
      await load();
    } else {
      app.failed = () => act(path, body, said);
      showProblem(error);
    }
  } finally {
    app.isBusy = false;
  }
}

function seconds() {
  const running = document.hidden ? 0 : performance.now() - app.watch.since;
  return (app.watch.spent + running) / 1000;
}

function answer(value) {
  const choice = app.guideline?.choices.find((each) => each.value === value);
  if (!choice || !app.state?.case || app.isBusy) return;
  const button = $("choices").querySelector(`[data-value="${value}"]`);
  button.classList.add("given");
  setTimeout(() => button.classList.remove("given"), 160);
  act("/api/answer", { case: app.state.case.case, value, seconds: seconds() }, `Stored: ${choice.name}.`);
}

function skip() {
  if (app.state?.case) act("/api/skip", { case: app.state.case.case, seconds: seconds() }, "Skipped.");
}

function undo() {
  if (app.state?.can_undo) act("/api/undo", {}, "Taken back.");
}

async function load() {
  const name = $("annotator").value || remembered.get("relgrade-annotator") || "";
  let state;
  try {
    state = await call(`/api/state${name ? `?annotator=${encodeURIComponent(name)}` : ""}`);
  } catch (error) {
    if (error.status !== 400 || !name) throw error;
    state = await call("/api/state");  // the name remembered is of another audit
  }
  showGuideline(state.guideline);
  showPeople(state.annotators, state.annotator);
  show(state);
}

async function start() {
  try {
    await load();
  } catch (error) {
    if (error.status === 403) {
      $("problem-text").textContent = "Open the whole address that the command printed, with everything after #.";
      $("problem").hidden = false;
      $("retry").hidden = true;
    } else {
      app.failed = start;
      showProblem(error);
    }
  }
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || document.querySelector("dialog[open]")) return;
  if (event.target.closest("select, input, textarea") || !$("keys-on").checked) return;
  const key = event.key.toLowerCase();
  if (/^[0-9]$/.test(key)) answer(Number(key));
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if (key === "g") $("guideline").showModal();
  else if (key === "?") $("keys").showModal();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {  // a hidden page is not being read
  if (document.hidden) app.watch.spent += performance.now() - app.watch.since;
  app.watch.since = performance.now();
});
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("undo-last").addEventListener("click", undo);
$("revisit").addEventListener("click", () => act("/api/revisit", {}, "Looking again."));
$("retry").addEventListener("click", () => app.failed?.());
$("show-keys").addEventListener("click", () => $("keys").showModal());
$("show-guideline").addEventListener("click", () => $("guideline").showModal());
$("jump").addEventListener("click", (event) => {  // the fragment of the address is the token: it stays
  event.preventDefault();
  $("choices").querySelector("button")?.focus();
});
$("annotator").addEventListener("change", () => {
  remembered.set("relgrade-annotator", $("annotator").value);
  start();
});
$("keys-on").checked = remembered.get("relgrade-keys") !== "off";
$("keys-on").addEventListener("change", () => remembered.set("relgrade-keys", $("keys-on").checked ? "on" : "off"));
window.addEventListener("hashchange", () => location.reload());
start();
