// gradio's slider reports a release of the mouse only; this makes one of a key that moved it.
document.addEventListener("keyup", (event) => {
  if (event.target.matches?.("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key))
    event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
});
