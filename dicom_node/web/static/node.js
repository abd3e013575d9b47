// Destinations are asked on request; the load is looked at again while the page is seen.
"use strict";
(() => {
  const EVERY_MS = 10000;
  const csrf = () => ({ "x-csrf-token": document.querySelector("input[name=csrf]")?.value || "" });
  for (const button of document.querySelectorAll("button.echo")) {
    button.addEventListener("click", async () => {
      const place = button.nextElementSibling;
      button.disabled = true;
      place.textContent = "asking";
      try {
        const answer = await fetch(`/node/echo/${button.dataset.name}`, { method: "POST", headers: csrf() });
        if (answer.status === 401) { location.reload(); return; } // the session has ended
        place.innerHTML = answer.ok ? await answer.text() : "That was not done."; // made by the node's own templates, which escape
      } catch {
        place.textContent = "The node does not answer.";
      }
      button.disabled = false;
    });
  }
  const reload = document.getElementById("reload");
  reload?.addEventListener("click", async () => {
    const place = document.getElementById("reloaded");
    reload.disabled = true;
    place.textContent = "reading";
    try {
      const answer = await fetch("/node/reload", { method: "POST", headers: csrf() });
      if (answer.status === 401) { location.reload(); return; }
      place.innerHTML = answer.ok || answer.status === 409 ? await answer.text() : "That was not done.";
    } catch {
      place.textContent = "The node does not answer.";
    }
    reload.disabled = false;
  });
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/node/load", { headers: { "x-by-itself": "1" } });
      if (answer.status === 401) { location.reload(); return; } // the session has ended
      if (answer.ok) document.getElementById("load").innerHTML = await answer.text();
    } catch { /* asked again */ }
  }, EVERY_MS);
})();
