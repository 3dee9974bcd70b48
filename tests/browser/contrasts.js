// The elements among those of a selector (arguments[0]) whose contrast is less than
// WCAG 2.2, level AA, asks for: 4.5 for text, 3 for large text and for shapes that mean something.
const parse = (color) => {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
const light = (color) => {
  const [r, g, b] = color.map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) {
    layers.push(parse(getComputedStyle(e).backgroundColor));
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const canvas = dark ? [18, 18, 18] : [255, 255, 255];
  return layers.reverse().reduce((under, top) => over(top, under), canvas);
};
const found = [];
const add = (element, kind, color, needed) => {
  const under = behind(element);
  const seen = contrast(over(parse(color), under), under);
  if (seen < needed) {
    const text = (element.textContent || "").trim().slice(0, 40);
    found.push(`${kind} <${element.tagName} class="${element.getAttribute("class") || ""}"> ` +
      `${text}: ${color} on ${under.map(Math.round)}: ${seen.toFixed(2)}, needed ${needed}`);
  }
};
for (const element of document.querySelectorAll(arguments[0])) {
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height || style.visibility !== "visible") continue;
  if (element instanceof SVGElement) {
    if (element.matches("text")) add(element, "text", style.fill, 4.5);
    if (element.matches(".line, .mark")) add(element, "shape", style.stroke, 3);
    if (element.matches(".icon circle, .end")) add(element, "shape", style.fill, 3);
  } else if ([...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) {
    const large = parseFloat(style.fontSize) >= 24;
    add(element, "text", style.color, large ? 3 : 4.5);
  }
}
return found;
