// Hands the photo and the settings of the page to the page in the frame, web/app.js, which computes in this browser.
// Body of a function of gradio's gr.HTML; props.value is what on_device.py says, as JSON.
const frame = element.querySelector("iframe");
let ready = false, handed = "";

function hand() {
  if (!ready || !props.value || props.value === handed) return;
  handed = props.value;
  const [photo, noisy, noise, sigma, mode, level, checkpoint] = JSON.parse(handed);
  const added = noisy ? 0 : noise === "gaussian" ? sigma : 25; // it has no other noise
  frame.contentWindow.postMessage({ photo: photo?.url, added, mode, level, checkpoint }, location.origin);
}
window.addEventListener("message", ({ data, source, origin }) => {
  if (data !== "ready" || source !== frame.contentWindow || origin !== location.origin) return;
  [ready, handed] = [true, ""];
  hand();
});
watch("value", hand);
