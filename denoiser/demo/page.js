// -- what every run is sent: which pictures are to be seen; which slider moves, and where it is (DenoiseTab.connect) --------
let moving = null; // the range input that is being moved
let moved = false; // whether it has moved since the last live run began
window.isMoving = () => moving !== null;
window.beginLive = () => {
  moved = false;
  return moving ? `${moving.closest(".block").id} ${moving.value}` : "";
};
window.goOnLive = () => { // viewer.js has drawn a live picture
  if (moving && moved) moving.dispatchEvent(new Event("input", { bubbles: true }));
};
window.addEventListener("input", (event) => { moved ||= event.target === moving; }, true);
window.shownPictures = () => document.querySelector("#viewer .viewer")?.dataset.shown
  ?? (innerWidth < 800 ? "noisy denoised" : "noisy denoised difference clean");
const isRange = (element) => element?.matches?.("input[type=range]");
const isMove = (event) => isRange(event.target) && /^(Arrow|Page|Home|End)/.test(event.key);
let before = ""; // where the slider was before it was touched
window.addEventListener("pointerdown", (event) => {
  if (!isRange(event.target)) return;
  moving = event.target;
  before = moving.value;
}, true);
window.addEventListener("keydown", (event) => { if (isMove(event)) moving = event.target; }, true);
window.addEventListener("pointerup", (event) => {
  moving = null; // before gradio's slider hears of the release
  if (isNumber(event.target)) event.stopPropagation(); // nothing moved: the slider's number box was clicked
}, true);
// gradio's slider reports a release of the mouse only; this makes one of a key, and of a touch that scrolls the page.
const release = (range = moving) => {
  moving = null;
  range?.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
};
window.addEventListener("keyup", (event) => { if (isMove(event)) release(); }, true);
window.addEventListener("pointercancel", () => { // the finger scrolls the page, and only began on a slider
  if (moving && moving.value !== before) {
    moving.value = before;
    moving.dispatchEvent(new Event("input", { bubbles: true }));
  }
  release();
}, true);
window.addEventListener("blur", () => release());

// -- pictures of the server --------------------------------------------------------------------------------------------
window.fileAddress = (path) => {
  const { root, api_prefix } = window.gradio_config;
  return `${root}${api_prefix}/file=${path.split("/").map(encodeURIComponent).join("/")}`;
};

// -- number boxes: what is typed acts at Enter or when the box is left, half-typed numbers do not ----------------------
const isNumber = (element) => element?.matches?.("input[type=number]");
window.addEventListener("input", (event) => {
  if (isNumber(event.target) && !event.finished) event.stopImmediatePropagation();
}, true);
const finish = (box) => {
  // What is used is shown: the number before where there is none, one in range, and a whole one as the seed.
  if (box.value === "") box.value = box.dataset.finished ?? "";
  else if (box.closest("#seed")) box.value = Math.min(Math.abs(Math.round(box.value)), Number.MAX_SAFE_INTEGER);
  else if (box.max) box.value = Math.min(Math.max(box.value, box.min), box.max);
  if (box.value === box.dataset.finished) return;
  box.dataset.finished = box.value;
  box.dispatchEvent(Object.assign(new Event("input", { bubbles: true }), { finished: true }));
  setTimeout(() => { // a slider's box that is left reports a release by itself
    if (document.activeElement === box) release(box.closest(".block")?.querySelector("input[type=range]"));
  });
};
window.addEventListener("focusin", (event) => { if (isNumber(event.target)) event.target.dataset.finished = event.target.value; });
window.addEventListener("change", (event) => { if (isNumber(event.target)) finish(event.target); }, true);
window.addEventListener("keydown", (event) => { if (event.key === "Enter" && isNumber(event.target)) finish(event.target); }, true);

// -- the panel about checkpoints ---------------------------------------------------------------------------------------
function togglePanel(open) {
  const panel = document.getElementById("panel");
  if (!panel || panel.classList.contains("open") === open) return;
  panel.classList.toggle("open", open);
  const attributes = { "role": "dialog", "aria-label": "Checkpoints", "aria-modal": coversAll(panel) };
  for (const [name, value] of Object.entries(attributes)) panel.setAttribute(name, value);
  document.getElementById(open ? "panel-close" : "panel-open")?.focus();
}
const coversAll = (panel) => panel.offsetWidth > 0.9 * innerWidth;
document.addEventListener("focusin", ({ target }) => { // what is under it is not to be seen
  const panel = document.getElementById("panel");
  if (panel?.classList.contains("open") && coversAll(panel) && !panel.contains(target)) document.getElementById("panel-close").focus();
});
document.addEventListener("click", (event) => {
  if (event.target.closest?.("#panel-open")) togglePanel(!document.getElementById("panel").classList.contains("open"));
  if (event.target.closest?.("#panel-close")) togglePanel(false);
  for (const open of document.querySelectorAll("details.info[open]")) // one explanation at a time
    if (!open.contains(event.target)) open.open = false;
});
document.addEventListener("toggle", (event) => { // an explanation may open below the window's end
  if (event.target.matches("details.info[open]")) event.target.lastElementChild.scrollIntoView({ block: "nearest" });
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const open = document.querySelector("details.info[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  } else togglePanel(false);
});

// -- menus -------------------------------------------------------------------------------------------------------------
// gradio takes any other key as the beginning of a search, after the menu has lost the focus, too: Tab would open it again.
const MENU_KEYS = ["ArrowUp", "ArrowDown", "Home", "End", "Enter", "Escape"];
window.addEventListener("keydown", (event) => {
  if (event.target.matches?.("input[role=combobox][readonly]") && !MENU_KEYS.includes(event.key)) event.stopImmediatePropagation();
}, true);
window.addEventListener("pointerdown", ({ target }) => { // it opens when it gets the focus, which it keeps when it is closed by Escape
  const menu = target.closest?.(".block")?.querySelector("input[role=combobox][readonly]");
  if (menu && menu === document.activeElement && menu.getAttribute("aria-expanded") !== "true") menu.blur();
}, true);

// -- names, groups and words that gradio leaves out ---------------------------------------------------------------------
const announced = Object.assign(document.createElement("div"), { id: "announced", role: "status" });
function announceResult() { // once it is final: the first of its figures
  const tile = document.querySelector("#figures .tile"), value = tile?.querySelector("b").textContent;
  if (/[\u2026\u2248]/.test(value)) return;
  const text = tile ? `${tile.querySelector(".label").firstChild.textContent.trim()}: ${value.replace("\u2192", "to")}` : "";
  if (announced.textContent !== text) announced.textContent = text;
}
const LATE = ["offer", "job", "file"], there = new Set(); // what appears after an action, perhaps out of sight
new MutationObserver(() => {
  for (const id of LATE) {
    const element = document.getElementById(id);
    if (element && !there.has(id)) requestAnimationFrame(() => element.scrollIntoView({ block: "nearest" }));
    there[element ? "add" : "delete"](id);
  }
  if (!announced.isConnected) document.body?.append(announced);
  announceResult();
  for (const group of document.querySelectorAll("fieldset:has([type=radio])")) { // of one name the arrow keys choose
    const [first, ...others] = group.querySelectorAll("[type=radio]");
    for (const other of others) if (other.name !== first.name) other.name = first.name;
  }
  for (const picture of document.querySelectorAll("#examples .gallery-item:not([aria-label]) img")) {
    const name = decodeURIComponent(picture.src).split("/").pop().replace(/\.\w+$/, "");
    picture.closest("button").setAttribute("aria-label", `Example: ${name}`);
  }
  for (const code of document.querySelectorAll("#card pre:not([tabindex])")) code.tabIndex = 0; // it may scroll
  // A menu's list that scrolls would take the focus, and it is gone once its menu has lost it.
  for (const list of document.querySelectorAll("ul[role=listbox]:not([tabindex])")) list.tabIndex = -1;
}).observe(document, { childList: true, subtree: true });

// -- calls of gradio's queue --------------------------------------------------------------------------------------------
const fetchOnce = window.fetch;
window.fetch = (resource, options) => {
  const address = String(resource.url ?? resource);
  if (address.includes("/queue/join")) return join(() => fetchOnce(resource, options));
  if (address.includes("/queue/data")) return listen(() => fetchOnce(resource.clone?.() ?? resource, options));
  return fetchOnce(resource, options);
};

// What a call waits for, until its first answer: its place, or that it is computed. gradio's own notice is drawn again in
// every frame, on cores that may be those of the network.
const SILENT_MS = 1000; // what is answered sooner needs no word
const begun = new Map(); // call -> since when, and its place
function showProgress() {
  const calls = [...begun.values()], long = calls.some(({ since }) => performance.now() - since > SILENT_MS);
  showWaiting(calls.find(({ place }) => place)?.place ?? (long ? "Computing \u2026" : ""));
}
setInterval(showProgress, 250);
function readProgress({ msg, event_id: call, rank, queue_size: length }) {
  if (msg === "estimation" && length > 1) begun.set(call, { since: 0, place: `In the queue: ${rank + 1} of ${length}` });
  else if (msg === "estimation" || msg === "process_starts") begun.set(call, { since: performance.now() });
  else begun.delete(call);
  showProgress();
}
// A full queue answers 503 with a sentence: the page shows it and asks again until there is room (guard.py).
const RETRY_MS = 2000;
let joining = 0;
const due = new Set(); // calls that are joined and not answered
const moment = () => new Promise((resolve) => setTimeout(resolve, 10));
async function join(ask) {
  try {
    for (;;) {
      let answer, told;
      joining += 1;
      try {
        answer = await ask();
        if (answer.ok) {
          told = await answer.json();
          answer.json = async () => told; // at once: gradio's client knows the call when the timer below runs
        }
      } finally {
        setTimeout(() => {
          joining -= 1;
          if (told) due.add(told.event_id);
        });
      }
      if (answer.status !== 503) return answer;
      const { detail } = await answer.json().catch(() => ({}));
      begun.set(ask, { place: detail ?? "Many are waiting: the page tries again by itself." });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (1 + Math.random())));
    }
  } finally {
    begun.delete(ask);
    showProgress();
  }
}
// gradio's server ends the stream of answers when none is due. Its client takes that stream for open until it reads so,
// and a call that it joins meanwhile is never answered. So the end reaches the client only when no call waits for an
// answer; otherwise the stream is opened again and goes on.
// What it reads of a call that it does not know yet it keeps, and merges the messages before it draws the first: what that
// one updates and the next one does not would be lost. So they wait here until the call is joined.
async function listen(open) {
  const first = await open();
  if (!first.ok) return first;
  const messages = readMessages(first, open), encoder = new TextEncoder();
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = await messages.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value + "\n\n"));
    },
  });
  return new Response(body, { status: first.status, headers: first.headers });
}
async function* readMessages(answer, open) {
  for (;; answer = await open()) {
    let text = "", end = null;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const messages = (text + part.value).split("\n\n");
      text = messages.pop();
      for (const message of messages) {
        const told = JSON.parse(message.slice("data:".length)), { msg, event_id: call } = told;
        while (call && joining && !due.has(call)) await moment();
        if (call) readProgress(told);
        window.expectPictures?.(told.output?.data ?? []);
        if (msg === "process_completed") due.delete(call);
        if (msg === "unexpected_error") {
          due.clear();
          begun.clear();
        }
        if (msg === "close_stream") end = message;
        // To gradio's client these only say what is shown here, and for each it updates every control of the page.
        else if (msg !== "estimation" && msg !== "process_starts") yield message;
      }
    }
    while (joining) await moment();
    if (due.size && end) continue;
    if (end) yield end;
    return;
  }
}
function showWaiting(text) {
  let element = document.getElementById("waiting");
  if (!element) {
    element = Object.assign(document.createElement("div"), { id: "waiting", role: "status" });
    document.body.append(element);
  }
  if (element.textContent !== text) element.textContent = text;
}

// -- the settings in the address, as address.py writes and reads them ----------------------------------------------------
let addressTimer = null, opening = location.search !== "";  // opening: the controls are not yet what the address says
for (const acted of ["pointerdown", "keydown"]) addEventListener(acted, () => { opening = false; }, true);
window.writeAddress = (query) => {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {  // what changes soon after one another is one step back
    const same = query === new URLSearchParams(location.search).toString().replaceAll("%2F", "/").replaceAll("%40", "@");
    opening &&= !same;
    if (same || opening) return;
    history.pushState(null, "", query ? `?${query}` : location.pathname);
  }, 400);
};
window.addEventListener("popstate", () => {
  clearTimeout(addressTimer);
  opening = true;
  document.getElementById("address-opened")?.click();
});
