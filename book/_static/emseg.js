// A link to a run opens its numbers: the reader came for one of them.
function openTargetedRun() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const numbers = target?.matches("section.emseg-run") ? target.querySelector("details") : null;
  if (numbers) numbers.open = true;
}
window.addEventListener("DOMContentLoaded", openTargetedRun);
window.addEventListener("hashchange", openTargetedRun);

// Print with every fold open, and close again afterwards what was closed.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("article details:not([open], .hide, .emseg-details)")];
  for (const part of opened) part.open = true;
});
window.addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
