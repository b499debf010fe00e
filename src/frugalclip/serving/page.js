"use strict";
const PAGE = 24;
const at = (id) => document.getElementById(id);
const state = { file: null, like: null, offset: 0, request: 0 };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "href") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const address = (id, size) => "/image/" + encodeURIComponent(id) + (size ? "?size=" + size : "");

function reading(share) {
  if (share === undefined || share === null) return "";
  if (share >= 0.1) return Math.round(share * 100) + " % of random pairs score this high";
  return "1 in " + Math.round(1 / share).toLocaleString("en") + " random pairs scores this high";
}

function condition() {
  const clauses = [];
  for (const field of document.querySelectorAll("#fields fieldset")) {
    const values = [...field.querySelectorAll("input:checked")].map((box) => box.value);
    if (values.length) clauses.push(field.dataset.name + "=" + values.join("|"));
  }
  return clauses.join(",");
}

function parameters() {
  const found = new URLSearchParams();
  const set = (name, value) => { if (value !== "" && value !== null) found.set(name, value); };
  set("q", at("text").value.trim());
  set("like", state.like);
  set("not", at("without").value.trim());
  set("where", condition());
  set("k", PAGE + 1);
  set("offset", state.offset);
  set("max_false_hits", at("false-hits").value);
  if (state.file || state.like) set("weight", at("weight").value);
  return found;
}

async function answered(response) {
  let content = {};
  try { content = await response.json(); } catch { /* no JSON: the status says it */ }
  if (response.status === 401) { location.href = "/login"; }
  if (!response.ok) throw new Error(content.error || "The server answered " + response.status + ".");
  return content;
}

function remember(query) {
  const kept = new URLSearchParams();
  for (const name of ["q", "like", "not"]) if (query.has(name)) kept.set(name, query.get(name));
  history.replaceState(null, "", kept.size ? "/?" + kept : "/");
}

function recall() {
  const given = new URLSearchParams(location.search);
  at("text").value = given.get("q") || "";
  at("without").value = given.get("not") || "";
  const like = given.get("like");
  if (like) {
    state.like = like;
    setExample(address(like, 128), "like: " + like);
  }
  ask();
}

async function ask() {
  const query = parameters();
  remember(query);
  if (!query.has("q") && !state.file && !state.like) return start();
  const request = ++state.request;
  at("status").textContent = "Searching…";
  at("error").hidden = true;
  try {
    let response;
    if (state.file) {
      const body = new FormData();
      for (const [name, value] of query) body.append(name, value);
      body.append("image", state.file);
      response = await fetch("/api/search", { method: "POST", body });
    } else {
      response = await fetch("/api/search?" + query);
    }
    const content = await answered(response);
    if (request === state.request) show(content);
  } catch (error) {
    if (request === state.request) fail(error);
  }
}

function fail(error) {
  const lost = error instanceof TypeError;
  at("error").textContent = lost ? "The server does not answer. Is it still running?" : error.message;
  at("error").hidden = false;
  at("status").textContent = "";
  fill([], false);
}

function show(content) {
  const hits = content.hits.slice(0, PAGE);
  fill(hits, content.hits.length > PAGE);
  const rows = content.index.rows.toLocaleString("en");
  at("status").textContent = hits.length
    ? "Hits " + (state.offset + 1) + " to " + (state.offset + hits.length) + " among " + rows + " pictures"
    : "Nothing was found. Try other words, or clear the filters.";
}

function fill(hits, more) {
  at("results").replaceChildren(...hits.map(card));
  at("previous").hidden = state.offset === 0;
  at("next").hidden = !more;
}

function card(hit) {
  const caption = hit.captions[0] || hit.id;
  const image = make("img", { src: address(hit.id, 256), alt: caption, loading: "lazy" });
  image.addEventListener("error", () => { image.alt = "This picture cannot be read any more: " + caption; });
  const link = make("a", { href: address(hit.id), target: "_blank", rel: "noopener" }, image);
  const chips = hit.reasons.slice(0, 6).map((reason) =>
    make("span", { className: "chip", title: "weight " + reason.weight.toFixed(3) }, reason.word));
  const more = make("button", { type: "button", className: "quiet" }, "More like this");
  more.setAttribute("aria-label", "More like this: " + caption);
  more.addEventListener("click", () => moreLike(hit.id, caption));
  const text = make("div", { className: "text" }, make("p", { dir: "auto" }, caption),
    make("span", { className: "score", title: "score " + hit.score.toFixed(3) }, reading(hit.false_hits)));
  if (chips.length) text.append(make("div", { className: "chips" }, ...chips));
  text.append(more);
  const item = make("li", { className: "hit" }, link, text);
  item.dataset.id = hit.id;
  item.dataset.caption = caption;
  return item;
}

function setExample(source, name) {
  const old = at("example-image").src;
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  at("example").hidden = source === null;
  at("mix").hidden = source === null || !at("text").value.trim();
  if (source !== null) {
    at("example-image").src = source;
    at("example-image").alt = name;
    at("example-name").textContent = name;
  }
}

function moreLike(id, caption) {
  state.file = null;
  state.like = id;
  state.offset = 0;
  at("text").value = "";
  setExample(address(id, 128), "like: " + caption);
  ask();
  scrollTo({ top: 0 });
}

function useFile(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) return fail(new Error(file.name + " is not a picture; drop a JPEG, PNG or WebP."));
  state.file = file;
  state.like = null;
  state.offset = 0;
  setExample(URL.createObjectURL(file), file.name);
  ask();
}

function start() {
  state.request++;
  fill([], false);
  at("error").hidden = true;
  at("status").textContent = "Type what the pictures show, or drop a picture.";
}

function clearExample() {
  state.file = state.like = null;
  state.offset = 0;
  at("file").value = "";
  setExample(null, "");
}

function turn(step) {
  state.offset = Math.max(0, state.offset + step * PAGE);
  ask();
  at("results").focus();
  scrollTo({ top: 0 });
}

async function about() {
  try {
    const content = await answered(await fetch("/api/index"));
    at("about").textContent = content.index.rows.toLocaleString("en") + " pictures, "
      + (content.index.kind === "lexical" ? "found by words." : "found by a model's vectors.");
    at("fields").replaceChildren(...content.fields.map(group));
    if (!content.reads_text) { at("text").disabled = true; at("text").placeholder = "This model knows pictures only"; }
  } catch (error) { fail(error); }
}

function group(field) {
  const boxes = field.values.map(({ value, rows }) => {
    const box = make("input", { type: "checkbox", value });
    box.addEventListener("change", () => { state.offset = 0; ask(); });
    return make("label", {}, box, value + " (" + rows.toLocaleString("en") + ")");
  });
  const set = make("fieldset", {}, make("legend", {}, field.name), ...boxes);
  set.dataset.name = field.name;
  return set;
}

function moved(key) {
  const items = [...document.querySelectorAll("#results .hit a")];
  if (!items.length) return false;
  const here = items.indexOf(document.activeElement);
  const wide = items.filter((item) => item.getBoundingClientRect().top === items[0].getBoundingClientRect().top).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[key];
  items[here < 0 ? 0 : Math.min(items.length - 1, Math.max(0, here + step))].focus();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName);
  if (event.key === "Escape") { clearExample(); at("text").value = ""; start(); at("text").focus(); return; }
  if (typing) { if (event.key !== "ArrowDown" || document.activeElement !== at("text")) return; }
  if (event.key === "/") { event.preventDefault(); at("text").focus(); }
  if (event.key.startsWith("Arrow") && moved(event.key)) event.preventDefault();
  const hit = document.activeElement.closest(".hit");
  if (event.key === "m" && hit) moreLike(hit.dataset.id, hit.dataset.caption);
});
at("form").addEventListener("submit", (event) => { event.preventDefault(); state.offset = 0; ask(); });
at("text").addEventListener("input", () => { at("mix").hidden = at("example").hidden || !at("text").value.trim(); });
for (const id of ["without", "false-hits", "weight"]) {
  at(id).addEventListener("change", () => { state.offset = 0; ask(); });
}
at("pick").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => useFile(at("file").files[0]));
at("drop-example").addEventListener("click", () => { clearExample(); ask(); });
at("clear").addEventListener("click", () => {
  for (const box of document.querySelectorAll("#fields input:checked")) box.checked = false;
  at("without").value = "";
  at("false-hits").value = "1";
  state.offset = 0;
  ask();
});
at("previous").addEventListener("click", () => turn(-1));
at("next").addEventListener("click", () => turn(1));
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); at("dropzone").hidden = false; });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" || event.relatedTarget === null) at("dropzone").hidden = true;
  });
}
document.addEventListener("drop", (event) => useFile(event.dataTransfer.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) useFile(file);
});
about();
recall();
