// The overview of a large photo: a click, dragging and arrow keys move the frame of the part that is worked on. Body of a
// function of gradio's gr.HTML with `element`, `watch` and `trigger`; the event's data is the middle of the part.
const place = { x: 0.5, y: 0.5 };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const frame = () => element.querySelector(".overview-part");
const share = () => Number(frame()?.dataset.share ?? 1);
function move(x, y) {
  const half = share() / 2;
  place.x = Math.min(Math.max(x, half), 1 - half);
  place.y = Math.min(Math.max(y, half), 1 - half);
  if (!frame()) return;
  const percent = (value) => `${value * 100}%`;
  Object.assign(frame().style, {
    left: percent(place.x - half), top: percent(place.y - half), width: percent(2 * half), height: percent(2 * half),
  });
}
const choose = () => trigger("input", { x: place.x, y: place.y });
function follow(event) {
  const box = element.querySelector(".overview-photo").getBoundingClientRect();
  move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}
element.addEventListener("pointerdown", (event) => {
  const photo = event.target.closest(".overview-photo");
  if (!photo || event.button) return;
  event.preventDefault();
  frame().focus({ preventScroll: true });
  photo.setPointerCapture(event.pointerId);
  follow(event);
  photo.addEventListener("pointermove", follow);
  photo.addEventListener("pointerup", () => { photo.removeEventListener("pointermove", follow); choose(); }, { once: true });
  photo.addEventListener("pointercancel", () => photo.removeEventListener("pointermove", follow), { once: true });
});
let later;
element.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step || !event.target.matches(".overview-part")) return;
  event.preventDefault();
  move(place.x + (step[0] * share()) / 4, place.y + (step[1] * share()) / 4);
  clearTimeout(later);
  later = setTimeout(choose, 250);  // one answer for several presses
});
// A photo that the browser cannot show (TIFF, HEIC) is shown in the box of the upload as our reader sees it, or not at all.
function mend() {
  const own = element.querySelector("img"), shown = document.querySelector("#photo img");
  if (!shown) return;
  const broken = shown.complete && !shown.naturalWidth;
  shown.style.visibility = broken ? "hidden" : "";
  if (broken && own && shown.src.includes(`/${own.dataset.upload}/`)) shown.src = own.src;
}
for (const name of ["error", "load"])
  document.addEventListener(name, (event) => { if (event.target.matches?.("#photo img")) mend(); }, true);
watch("value", () => { move(0.5, 0.5); mend(); });
