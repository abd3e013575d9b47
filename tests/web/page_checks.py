"""Scripts that look at a page from within: contrast, names, whether all is loaded."""

LOADED = """() => {
  const viewer = document.getElementById("viewer");
  const images = [...document.querySelectorAll("#viewer img[src]")];
  const loaded = images.every((image) => image.complete && image.naturalWidth);
  return !viewer || ("shown" in viewer.dataset && loaded);
}"""

LOW_CONTRASTS = """() => {
  // of each visible text against the nearest opaque ground (WCAG 2.2, 1.4.3)
  const parse = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [0, 0, 0];
  };
  const low = [];
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!hasText || !element.offsetParent || element.closest("svg") || element.disabled) continue;
    const two = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))];
    const ratio = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
    const text = element.textContent.trim().slice(0, 30);
    if (ratio < 4.5) low.push(`${element.tagName} ${text}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""

NAMELESS = """() => {
  // fields, buttons and pictures without a name that a screen reader could say
  const all = document.querySelectorAll("input, select, button, a, svg, progress, img:not([alt])");
  const name = (e) => e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent;
  return [...all].filter((e) => e.type !== "hidden" && !(name(e) || "").trim())
    .map((e) => e.outerHTML.slice(0, 120));
}"""
