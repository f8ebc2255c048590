// Hands the photo and the settings of the page to the page in the frame, web/app.js, which computes in this browser.
// Body of a function of gradio's gr.HTML; props.value is what on_device.py says, as JSON.
const frame = element.querySelector("iframe");
let ready = false, handed = "";

function hand() {
  if (!ready || !props.value || props.value === handed) return;
  handed = props.value;
  const [photo, noisy, noise, sigma, mode, level, checkpoint, viewer] = JSON.parse(handed);
  const settings = { photo: photo?.url, added: noisy ? 0 : sigma, mode, level, checkpoint };
  if (!noisy && noise !== "gaussian") { // noise that the frame cannot make: the noisy picture itself
    const shown = viewer && JSON.parse(viewer).paths.noisy;
    if (!shown) return; // rather no picture than one with other noise
    Object.assign(settings, { photo: window.fileAddress(shown), added: 0 });
    if (mode === "known") settings.mode = "estimate";
  }
  frame.contentWindow.postMessage(settings, location.origin);
}
window.addEventListener("message", ({ data, source, origin }) => {
  if (data !== "ready" || source !== frame.contentWindow || origin !== location.origin) return;
  [ready, handed] = [true, ""];
  hand();
});
watch("value", hand);
