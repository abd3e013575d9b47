// What changes while work is under way: asked again each second, until it has ended.
"use strict";
(() => {
  const EVERY_MS = 1000;
  const place = document.getElementById("told");
  if (!place || place.dataset.moving !== "1") return;
  let last = place.innerHTML;
  async function ask() {
    try {
      const answer = await fetch(place.dataset.address, { headers: { "x-by-itself": "1" } });
      if (answer.status === 401) { location.reload(); return; } // the session has ended
      const text = await answer.text();
      if (answer.ok && text !== last && !place.contains(document.activeElement)) {
        last = text;
        place.innerHTML = text;
      }
      // Its pictures and lesions are those of before
      if (answer.headers.get("x-ended") === "1") { location.reload(); return; }
    } catch { /* the node stops or starts: asked again */ }
    setTimeout(ask, EVERY_MS);
  }
  setTimeout(ask, EVERY_MS);
})();
