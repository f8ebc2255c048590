// gradio's slider reports a release of the mouse only; this makes one of a key that moved it.
document.addEventListener("keyup", (event) => {
  if (event.target.matches?.("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key))
    event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
});

// A full queue answers 503 with a sentence. The page shows it and asks again until there is room (guard.py).
const RETRY_MS = 2000;
const fetchOnce = window.fetch;
let waiting = 0;
window.fetch = async (resource, options) => {
  let answer = await fetchOnce(resource, options);
  if (answer.status !== 503 || !String(resource.url ?? resource).includes("/queue/join")) return answer;
  waiting += 1;
  try {
    while (answer.status === 503) {
      const { detail } = await answer.json().catch(() => ({}));
      showWaiting(detail ?? "Many are waiting: the page tries again by itself.");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (1 + Math.random())));
      answer = await fetchOnce(resource, options);
    }
    return answer;
  } finally {
    waiting -= 1;
    if (!waiting) showWaiting("");
  }
};
function showWaiting(text) {
  let element = document.getElementById("waiting");
  if (!element) {
    element = Object.assign(document.createElement("div"), { id: "waiting", role: "status" });
    document.body.append(element);
  }
  element.textContent = text;
}
