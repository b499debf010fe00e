// Everything can be read without this script; it adds values under the pointer, sorting by a click, images in full size by a click, and a button to copy a command.
"use strict";

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("aria-live", "polite");
document.body.append(tip);

const SVG = "http://www.w3.org/2000/svg";
const element = (name, text) => {
  const node = document.createElement(name);
  node.textContent = text; // never as markup: names come from the user
  return node;
};

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best), points[0]);
}

function hover(svg) {
  const { x: xName, box, lines } = JSON.parse(svg.dataset.hover);
  const drawn = lines.filter((line) => line.points.length);
  const places = [...new Set(drawn.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  const cursor = document.createElementNS(SVG, "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", box[1]);
  cursor.setAttribute("y2", box[3]);
  svg.querySelectorAll("title").forEach((node) => node.remove()); // ours says more than the browser's
  svg.tabIndex = 0;
  let at = places.length - 1;

  function show(place) {
    at = places.indexOf(place);
    const rows = drawn.map((line) => [line, nearest(line.points, place)]).filter(([, point]) => Math.abs(point[0] - place) < 2);
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    svg.append(cursor);
    tip.replaceChildren(element("small", `${xName}: ${rows[0][1][2]}`));
    for (const [line, point] of rows) {
      const row = document.createElement("div");
      const dot = element("i", "");
      dot.style.background = `var(--s${line.colour})`;
      row.append(dot, element("b", point[3]), element("span", ` ${line.name}`));
      tip.append(row);
    }
    tip.hidden = false;
    const frame = svg.getBoundingClientRect();
    const left = frame.left + (place / svg.viewBox.baseVal.width) * frame.width;
    const beside = left + tip.offsetWidth + 20 > document.documentElement.clientWidth ? left - tip.offsetWidth - 12 : left + 12;
    tip.style.left = `${Math.max(8, beside) + window.scrollX}px`;
    tip.style.top = `${frame.top + window.scrollY + (box[1] / svg.viewBox.baseVal.height) * frame.height + 4}px`;
  }
  function hide() {
    tip.hidden = true;
    cursor.remove();
  }
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
    show(places.reduce((best, place) => (Math.abs(place - x) < Math.abs(best - x) ? place : best), places[0]));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    show(places[Math.min(places.length - 1, Math.max(0, at + step))]);
  });
}
document.querySelectorAll("svg[data-hover]").forEach(hover);

function sortable(table) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent.trim();
      const number = (text) => parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = Number.isNaN(number(x)) || Number.isNaN(number(y)) ? x.localeCompare(y) : number(x) - number(y);
        return down ? -order : order;
      });
      body.append(...rows);
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
document.querySelectorAll("table.sortable").forEach(sortable);

const large = document.createElement("dialog");
large.className = "large";
large.addEventListener("click", () => large.close());
document.body.append(large);

function enlargeable(tile) {
  const image = tile.querySelector("img");
  if (!image) return;
  const enlarge = () => {
    const shown = new Image();
    shown.src = image.src;
    shown.alt = image.alt;
    const caption = element("p", image.alt);
    caption.dir = "auto";
    large.replaceChildren(shown, caption);
    large.showModal();
  };
  tile.tabIndex = 0;
  tile.setAttribute("role", "button");
  tile.setAttribute("aria-label", `Enlarge: ${image.alt}`);
  tile.addEventListener("click", enlarge);
  tile.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge();
  });
}
document.querySelectorAll(".tile").forEach(enlargeable);

document.querySelectorAll(".command").forEach((block) => {
  if (!navigator.clipboard) return;
  const button = element("button", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
});
