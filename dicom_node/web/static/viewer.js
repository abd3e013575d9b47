// The slices of one series: pictures come from the node, one for each slice and window, and are held here.
"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const at = (id) => document.getElementById(id);
  const HELD = 160; // pictures
  const AHEAD = 4; // slices fetched on either side
  const held = new Map(); // address -> promise of an object URL, the latest used last
  const state = { index: facts.start, centre: facts.window[0], width: facts.window[1], layer: facts.layers[0] || null };

  function picture(address) {
    let known = held.get(address);
    if (known) held.delete(address);
    else {
      known = fetch(address).then((answer) => {
        if (!answer.ok) throw new Error(answer.status);
        return answer.blob();
      }).then((blob) => URL.createObjectURL(blob));
      known.catch(() => held.delete(address));
    }
    held.set(address, known);
    while (held.size > HELD) {
      const [oldest, url] = held.entries().next().value;
      held.delete(oldest);
      url.then(URL.revokeObjectURL, () => {});
    }
    return known;
  }

  const isFirst = () => state.centre === facts.window[0] && state.width === facts.window[1];
  function anatomyOf(index) {
    const window_ = isFirst() ? "" : `?centre=${state.centre}&width=${state.width}`;
    return `${facts.base}/slice/${index}${window_}`;
  }
  const layerOf = (index) => `${facts.base}/slice/${index}/${state.layer}`;

  let turn = 0;
  function put(index) { // both at once: what is laid over never lies on another slice
    const mine = ++turn;
    delete at("viewer").dataset.shown;
    Promise.all([picture(anatomyOf(index)), state.layer ? picture(layerOf(index)) : null]).then(
      ([anatomy, layer]) => {
        if (mine !== turn) return;
        at("left-anatomy").src = at("right-anatomy").src = anatomy;
        if (layer) at("right-layer").src = layer;
        at("viewer").dataset.shown = index;
      },
      () => { if (mine === turn) at("said").textContent = "The picture cannot be had: is the node running?"; },
    );
  }

  function ahead() {
    for (let step = 1; step <= AHEAD; step++) {
      for (const index of [state.index + step, state.index - step]) {
        if (index < 0 || index >= facts.slices) continue;
        picture(anatomyOf(index)).catch(() => {});
        if (state.layer) picture(layerOf(index)).catch(() => {});
      }
    }
  }

  let waiting = 0;
  function show() {
    const index = state.index;
    put(index);
    clearTimeout(waiting);
    waiting = setTimeout(ahead, 60);
    if (at("index")) at("index").value = index + 1;
    if (at("cursor")) at("cursor").setAttribute("x", index * 10);
    if (at("picture")) at("picture").href = `${facts.base}/picture/${index}`;
    const judged = facts.judged[index];
    const lesions = facts.lesions.filter(([, first, last]) => first <= index && index <= last).map(([number]) => number);
    let said = facts.names[index];
    if (judged) said += `. Detector: ${judged[0].toFixed(2)}${judged[1] ? ", positive" : ""}`;
    if (lesions.length) said += `. Lesion ${lesions.join(", ")}`;
    at("said").textContent = `${said}.`;
    if (at("index")) at("index").setAttribute("aria-valuetext", said);
  }

  function go(index) {
    const wanted = Math.max(0, Math.min(facts.slices - 1, index));
    if (wanted !== state.index) { state.index = wanted; show(); }
  }

  // Slices: slider, keys, wheel, plot, table
  at("index")?.addEventListener("input", (event) => go(Number(event.target.value) - 1));
  const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  for (const pane of document.querySelectorAll(".pane")) {
    pane.addEventListener("keydown", (event) => {
      if (event.key === "Home") go(0);
      else if (event.key === "End") go(facts.slices - 1);
      else if (event.key in KEYS) go(state.index + KEYS[event.key]);
      else return;
      event.preventDefault();
    });
    if (facts.slices > 1) pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      go(state.index + Math.sign(event.deltaY));
    }, { passive: false });
    windowBy(pane);
  }
  const plot = at("plot");
  if (plot) {
    const along = (event) => {
      const box = plot.getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * facts.slices));
    };
    plot.addEventListener("pointerdown", (event) => { plot.setPointerCapture(event.pointerId); along(event); });
    plot.addEventListener("pointermove", (event) => { if (event.buttons) along(event); });
  }
  for (const button of document.querySelectorAll("button.go")) {
    button.addEventListener("click", () => { go(Number(button.dataset.slice) - 1); at("viewer").scrollIntoView({ block: "nearest" }); });
  }

  // Window and level
  const [low, high] = facts.range;
  const span = Math.max(high - low, 1e-6);
  for (const [id, first, last] of [["centre", low, high], ["width", span / 200, span]]) {
    const slider = at(id);
    Object.assign(slider, { min: first, max: last, step: span / 400 });
    slider.value = state[id];
    slider.addEventListener("input", () => setWindow({ [id]: Number(slider.value) }));
  }
  let later = 0;
  function setWindow(change) {
    Object.assign(state, change);
    state.centre = Number(Math.max(low, Math.min(high, state.centre)).toPrecision(6));
    state.width = Number(Math.max(span / 200, Math.min(span, state.width)).toPrecision(6));
    at("centre").value = state.centre;
    at("width").value = state.width;
    cancelAnimationFrame(later);
    later = requestAnimationFrame(show);
  }
  at("reset").addEventListener("click", () => {
    Object.assign(state, { centre: facts.window[0], width: facts.window[1] });
    at("centre").value = state.centre;
    at("width").value = state.width;
    show();
  });
  function windowBy(pane) {
    pane.addEventListener("pointerdown", (event) => { if (event.button === 0) pane.setPointerCapture(event.pointerId); });
    pane.addEventListener("pointermove", (event) => {
      if (!(event.buttons & 1) || !(event.movementX || event.movementY)) return;
      setWindow({ centre: state.centre + (event.movementY * span) / 500, width: state.width + (event.movementX * span) / 500 });
    });
  }

  // What is laid over, and how
  for (const choice of document.querySelectorAll("input[name=layer]")) {
    choice.addEventListener("change", () => { state.layer = choice.value; name(); show(); });
  }
  function name() {
    if (at("layer-name")) at("layer-name").textContent = { heatmap: "Probability (JET)", contour: "Outline", mask: "Mask" }[state.layer];
  }
  at("opacity")?.addEventListener("input", (event) => { at("right-layer").style.opacity = event.target.value / 100; });
  if (at("opacity")) at("right-layer").style.opacity = at("opacity").value / 100;
  for (const choice of document.querySelectorAll("input[name=view]")) {
    choice.addEventListener("change", () => at("panes").classList.toggle("over", choice.value === "over"));
  }

  // Edges and scale: right is where it must be, and says so
  for (const frame of document.querySelectorAll(".frame")) {
    frame.style.aspectRatio = facts.ratio;
    if (facts.edges) ["left", "right", "top", "bottom"].forEach((side, k) => { frame.querySelector(`.edge.${side}`).textContent = facts.edges[k]; });
    const scale = frame.querySelector(".scale");
    if (!facts.width_mm) { scale.hidden = true; continue; }
    const long = facts.width_mm >= 100 ? 50 : 10;
    scale.style.width = `${(100 * long) / facts.width_mm}%`;
    scale.firstElementChild.textContent = `${long} mm`;
  }
  name();
  show();
})();
