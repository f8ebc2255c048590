// The picture in which a pixel is chosen, by a click or by arrow keys. Body of a function of gradio's gr.HTML with
// `element` and `trigger`; the event's data is the place, as shares of width and height.
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAR = 10;  // pixels for a step with Shift
const place = { x: 0.5, y: 0.5 };
const inside = (share) => Math.min(Math.max(share, 0), 1);
let later;
function choose(x, y, wait) {
  [place.x, place.y] = [inside(x), inside(y)];
  const picture = element.querySelector(".filter-picture");
  let mark = picture.querySelector("[data-name='Your pixel']");
  if (!mark) {
    mark = Object.assign(document.createElement("i"), { textContent: "Y" });
    mark.dataset.name = "Your pixel";
    picture.append(mark);
  }
  Object.assign(mark.style, { left: `${100 * place.x}%`, top: `${100 * place.y}%` });
  clearTimeout(later);
  later = setTimeout(() => trigger("input", { x: place.x, y: place.y }), wait);
}
element.addEventListener("click", (event) => {
  const picture = event.target.closest(".filter-picture");
  if (!picture) return;
  const box = picture.getBoundingClientRect();
  choose((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, 0);
});
element.addEventListener("keydown", (event) => {
  const picture = event.target.closest(".filter-picture"), step = STEPS[event.key];
  if (!picture || !step) return;
  event.preventDefault();
  const { naturalWidth, naturalHeight } = picture.querySelector("img"), far = event.shiftKey ? FAR : 1;
  choose(place.x + (step[0] * far) / naturalWidth, place.y + (step[1] * far) / naturalHeight, 250);  // one answer for several
});
watch("value", () => {  // what has the focus keeps it
  if (document.activeElement === document.body && element.dataset.focused) element.querySelector(".filter-picture")?.focus({ preventScroll: true });
});
element.addEventListener("focusin", () => { element.dataset.focused = "yes"; });
document.addEventListener("focusin", (event) => { if (!element.contains(event.target)) delete element.dataset.focused; });
