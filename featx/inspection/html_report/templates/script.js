"use strict";
const images = JSON.parse(document.getElementById("images").textContent);
const address = (number) => images[number].copy && `data:image/webp;base64,${images[number].copy}`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function describe(number) {
  const {path, label, predicted, confidence} = images[number];
  const parts = [label || "no label"];
  if (predicted && predicted !== label) parts.push(`classified as ${predicted}${confidence ? `, confidence ${confidence}` : ""}`);
  return {path, text: parts.join(", ")};
}

function thumbnails(number) {
  const {path, text} = describe(number);
  return address(number) ? [element("img", {src: address(number), alt: `${path}: ${text}`})] : [];
}

for (const img of document.querySelectorAll("img[data-image]")) {
  const source = address(img.dataset.image);
  if (source) img.src = source; else img.replaceWith();
}

// Buttons that show images.
function show(button, follow = true) {
  const gallery = button.closest("section").querySelector(".gallery");
  const chosen = button.dataset.images.split(" ");
  const of = Number(button.dataset.of);
  const title = button.getAttribute("aria-label").replace(/: show them$/, "");
  const tiles = element("ul", {class: "tiles"});
  for (const number of chosen) {
    const {path, text} = describe(number);
    tiles.append(element("li", {}, ...thumbnails(number), element("span", {}, text), element("span", {class: "path", title: path}, path)));
  }
  const more = of > chosen.length ? [element("p", {class: "quiet"}, `The ${chosen.length} most confident of ${of}.`)] : [];
  gallery.replaceChildren(element("h3", {}, title), tiles, ...more);
  gallery.hidden = false;
  for (const other of button.closest("section").querySelectorAll("[aria-pressed]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  const {top, bottom} = tiles.getBoundingClientRect();
  if (follow && (bottom > innerHeight || top < 0)) gallery.scrollIntoView({block: "nearest"});
}
for (const button of document.querySelectorAll("button[data-images]")) button.addEventListener("click", () => show(button));
for (const section of document.querySelectorAll("section")) {
  const first = section.querySelector("button[data-images]");
  if (first) show(first, false);
}

// Sortable tables: numbers by value, text alphabetically.
function value(row, column) {
  const cell = row.children[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}
function sort(table, heading, column) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a, column), value(b, column)) * (down ? -1 : 1));
  table.tBodies[0].append(...rows);
}
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if ("fixed" in heading.dataset) return;
    const button = element("button", {type: "button"}, heading.textContent);
    button.addEventListener("click", () => sort(table, heading, column));
    heading.replaceChildren(button);
  });
}

// The map: the pointer or the arrow keys select an image.
for (const svg of document.querySelectorAll(".map svg")) {
  const points = [...svg.querySelectorAll(".points circle")].map((node) => ({node, x: +node.getAttribute("cx"), y: +node.getAttribute("cy")}));
  const ring = svg.querySelector(".ring");
  const look = svg.closest(".map").querySelector(".look");
  let current = null;
  const choose = (point) => {
    if (!point || point === current) return;
    current = point;
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    ring.setAttribute("visibility", "visible");
    const number = point.node.dataset.image;
    const {path, text} = describe(number);
    look.replaceChildren(...thumbnails(number), element("p", {}, element("b", {}, text), element("br"), element("span", {class: "path"}, path)));
  };
  const nearest = (x, y, most) => {
    let best = null, least = most * most;
    for (const point of points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    return best;
  };
  const at = (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    choose(nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, 24 * Math.max(1, scale)));
  };
  svg.addEventListener("pointermove", at);
  svg.addEventListener("pointerdown", at);
  const {width, height} = svg.viewBox.baseVal;
  const middle = () => nearest(width / 2, height / 2, width);
  svg.addEventListener("focus", () => { if (!current) choose(middle()); });
  const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in ways)) return;
    event.preventDefault();
    if (!current) return choose(middle());
    const [right, down] = ways[event.key];
    let best = null, least = Infinity;
    for (const point of points) {
      const x = point.x - current.x, y = point.y - current.y;
      const along = x * right + y * down, aside = Math.abs(x * down) + Math.abs(y * right);
      if (along > 0.05 && along + 2 * aside < least) [best, least] = [point, along + 2 * aside];
    }
    choose(best);
  });
}

// Mark the section in view in the list of sections.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const {target, isIntersecting} of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(target.id);
    link.setAttribute("aria-current", "true");
    link.closest("nav").scrollTo({left: link.offsetLeft - 20});
  }
}, {rootMargin: "-20% 0px -70% 0px"});
for (const section of document.querySelectorAll("section[id]")) watcher.observe(section);
