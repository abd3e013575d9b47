// The list follows what happens: asked again every two seconds while the page is seen; only rows that changed are replaced.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const form = document.getElementById("search");
  const place = document.getElementById("rows");
  const heard = document.getElementById("heard");
  let turned = {}; // before or after a number: a page that is not the first
  let asked = 0;

  async function ask(isSearch) {
    const mine = ++asked;
    const body = new FormData(form);
    for (const [name, value] of Object.entries(turned)) body.set(name, value);
    try {
      const answer = await fetch("/series", { method: "POST", body: new URLSearchParams(body), headers: isSearch ? { "x-part": "rows" } : { "x-part": "rows", "x-by-itself": "1" } });
      if (answer.status === 401) { location.assign("/series"); return; } // the session has ended
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      if (mine === asked) take(text, isSearch);
    } catch {
      heard.textContent = "The node does not answer.";
    }
  }

  function take(text, isSearch) {
    const next = document.createElement("div");
    next.innerHTML = text; // made by the node's own templates, which escape
    const old = new Map([...place.querySelectorAll("tr[data-key]")].map((row) => [row.dataset.key, row]));
    const rows = [...next.querySelectorAll("tr[data-key]")];
    const body = place.querySelector("tbody");
    const fresh = rows.filter((row) => !old.has(row.dataset.key)).length;
    // Those that go first: then those that stay need not be moved, and keep the focus
    const keys = new Set(rows.map((row) => row.dataset.key));
    for (const [key, row] of old) if (!keys.has(key)) row.remove();
    rows.forEach((row, k) => {
      const known = old.get(row.dataset.key);
      const kept = known && (known.outerHTML === row.outerHTML || known.contains(document.activeElement)) ? known : row;
      if (body.children[k] !== kept) body.insertBefore(kept, body.children[k] || null);
      if (known && kept !== known) known.remove();
    });
    while (body.children.length > rows.length) body.lastElementChild.remove();
    const pager = place.querySelector(".pager");
    const now = next.querySelector(".pager");
    if (pager.innerHTML !== now.innerHTML) pager.replaceWith(now);
    const count = rows.filter((row) => row.dataset.key !== "none").length;
    if (isSearch) heard.textContent = `${count} series shown`;
    else if (fresh) heard.textContent = `${fresh} new`;
    else if (heard.textContent.startsWith("The node")) heard.textContent = "";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const by = event.submitter;
    turned = by && by.name ? { [by.name]: by.value } : {};
    ask(true);
  });
  let typed = 0;
  form.addEventListener("input", () => { turned = {}; clearTimeout(typed); typed = setTimeout(() => ask(true), 250); });
  setInterval(() => { if (!document.hidden) ask(false); }, EVERY_MS);
})();
