// Destinations are asked on request; the load is looked at again while the page is seen.
"use strict";
(() => {
  const EVERY_MS = 10000;
  for (const button of document.querySelectorAll("button.echo")) {
    button.addEventListener("click", async () => {
      const place = button.nextElementSibling;
      button.disabled = true;
      place.textContent = "asking";
      try {
        const answer = await fetch(`/node/echo/${button.dataset.name}`, { method: "POST" });
        place.innerHTML = answer.ok ? await answer.text() : "";
      } catch {
        place.textContent = "the node does not answer";
      }
      button.disabled = false;
    });
  }
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch("/node/load");
      if (answer.ok) document.getElementById("load").innerHTML = await answer.text();
    } catch { /* asked again */ }
  }, EVERY_MS);
})();
