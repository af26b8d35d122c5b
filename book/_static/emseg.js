// The numbers of a run are a script beside the page, which works without a server too; loaded when the run is opened.
function emsegRun(run, html) {
  const part = document.querySelector(`details[data-run="${CSS.escape(run)}"]`);
  part?.querySelector(".emseg-whole").insertAdjacentHTML("beforebegin", html);
}
document.addEventListener("toggle", event => {
  const part = event.target;
  if (!part.open || !part.dataset?.script) return;
  const script = document.createElement("script");
  script.src = part.dataset.script;
  delete part.dataset.script;
  document.head.append(script);
}, true);

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

// On hover or focus of a link within the book: the definition of a term, or the figure, formula, section or reference.
const TIP_DELAY_MS = 250;
let tip = null, waiting = 0;
const fetched = new Map();

function hideTip() {
  clearTimeout(waiting);
  document.querySelector('[aria-describedby="emseg-tip"]')?.removeAttribute("aria-describedby");
  tip?.remove();
  tip = null;
}

async function pageOf(url) {
  const address = url.origin + url.pathname;
  if (url.pathname === location.pathname) return document;
  if (location.protocol === "file:") return null; // browsers do not read other files
  if (!fetched.has(address)) {
    fetched.set(address, fetch(address).then(answer => answer.ok ? answer.text() : "").then(text => {
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const image of page.querySelectorAll("img[src]")) image.src = new URL(image.getAttribute("src"), address).href;
      return page;
    }).catch(() => null));
  }
  return fetched.get(address);
}

async function previewOf(link) {
  if (link.dataset.meaning) {
    const text = document.createElement("p");
    text.textContent = link.dataset.meaning;
    return [text];
  }
  const url = new URL(link.href, location.href), id = decodeURIComponent(url.hash.slice(1));
  if (!id || url.origin !== location.origin) return [];
  let target = (await pageOf(url))?.getElementById(id);
  if (target?.matches("span")) target = target.closest("figure, section, div.math, tr, .citation") ?? target.nextElementSibling;
  if (target?.closest("figure")) target = target.closest("figure");
  if (!target) return [];
  const parts = target.matches("section")
    ? [...target.querySelectorAll(":scope > :is(h1, h2, h3, h4), :scope > p")].slice(0, 2)
    : target.matches("figure, div.math, .citation, dd, dt, table, .proof, .admonition") ? [target] : [];
  return parts.map(part => {
    const copy = part.cloneNode(true);
    for (const one of [copy, ...copy.querySelectorAll("[id]")]) one.removeAttribute("id");
    for (const one of copy.querySelectorAll(".headerlink, .emseg-badge, mjx-assistive-mml")) one.remove();
    return copy;
  });
}

async function showTip(link) {
  const parts = await previewOf(link);
  if (!parts.length || !(link.matches(":hover") || link === document.activeElement)) return;
  hideTip();
  tip = document.createElement("div");
  Object.assign(tip, {id: "emseg-tip", className: "emseg-tip bd-article", role: "tooltip"});
  tip.append(...parts);
  tip.addEventListener("mouseleave", hideTip);
  document.body.append(tip);
  link.setAttribute("aria-describedby", tip.id);
  if (tip.querySelector(".math:not(:has(mjx-container))")) await window.MathJax?.typesetPromise?.([tip]);
  if (!tip) return;
  const at = link.getBoundingClientRect(), box = tip.getBoundingClientRect();
  const below = at.bottom + box.height + 8 < innerHeight || at.top < box.height + 8;
  tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.width - 8)) + scrollX}px`;
  tip.style.top = `${(below ? at.bottom : at.top - box.height) + scrollY}px`;
}

function linkAt(event) {
  return event.target.closest?.("article a.reference.internal, article a[data-meaning]");
}
for (const [shown, hidden] of [["mouseover", "mouseout"], ["focusin", "focusout"]]) {
  document.addEventListener(shown, event => {
    const link = linkAt(event);
    if (!link) return;
    clearTimeout(waiting);
    waiting = setTimeout(showTip, TIP_DELAY_MS, link);
  });
  document.addEventListener(hidden, event => {
    if (!linkAt(event) || tip?.contains(event.relatedTarget)) return;
    clearTimeout(waiting);
    waiting = setTimeout(hideTip, TIP_DELAY_MS / 2);
    if (tip) tip.addEventListener("mouseenter", () => clearTimeout(waiting), {once: true});
  });
}
document.addEventListener("keydown", event => { if (event.key === "Escape") hideTip(); });

// A formula that scrolls, on a phone, is reached by keyboard as well.
async function makeFormulasReachable() {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll('article :is(div.math, mjx-container[display="true"])')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}
window.addEventListener("load", makeFormulasReachable);
window.addEventListener("resize", makeFormulasReachable);
