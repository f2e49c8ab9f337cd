"use strict";
(() => {
  const PAGE = 24; // cards added at a time
  const FINE = 48; // pixels, side of the canvas that attention is painted on
  const byId = (id) => document.getElementById(id);
  const index = JSON.parse(byId("index").textContent);
  const rank = [];
  index.order.forEach((image, place) => { rank[image] = place; });

  // ---- parts: pictures and texts that are read when they are first needed, from the page or from files beside it

  const parts = new Map(), waiting = new Map();
  window.showtell = { part: (name, content) => waiting.get(name)(content) };
  function part(name) {
    if (!parts.has(name)) {
      parts.set(name, new Promise((resolve, reject) => {
        const inside = byId("part-" + name);
        if (inside) return resolve(JSON.parse(inside.textContent));
        waiting.set(name, resolve);
        const script = document.createElement("script");
        script.src = "parts/" + name + ".js";
        script.onerror = () => { parts.delete(name); reject(new Error("cannot read " + script.src)); };
        document.head.append(script);
      }));
    }
    return parts.get(name);
  }
  const details = async (image) => (await part(String(Math.floor(rank[image] / index.chunk))))[image];

  // ---- attention: a coarse grid of bytes painted as smooth warm light

  function attentionOf(detail) {
    if (!detail.attention) return null;
    const bytes = Uint8Array.from(atob(detail.attention), (letter) => letter.charCodeAt(0));
    const cells = bytes.length / detail.words.length;
    return { side: Math.round(Math.sqrt(cells)), shift: detail.shift, of: (word) => bytes.subarray(word * cells, (word + 1) * cells) };
  }

  function cubic(a, b, c, d, t) { // Catmull-Rom between b and c
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  }

  function stretched(row, size, shift) { // one line of values, at `size` places; moved by `shift` of the line
    const last = row.length - 1, at = (i) => row[Math.min(last, Math.max(0, i))];
    return Array.from({ length: size }, (_, place) => {
      const x = ((place + 0.5) / size - shift) * row.length - 0.5, i = Math.floor(x);
      return cubic(at(i - 1), at(i), at(i + 1), at(i + 2), x - i);
    });
  }

  function paint(canvas, heat, { side, shift }) {
    const lines = Array.from({ length: side }, (_, y) => heat.subarray(y * side, (y + 1) * side));
    const rows = lines.map((line) => stretched(line, FINE, shift));
    const columns = Array.from({ length: FINE }, (_, x) => stretched(rows.map((row) => row[x]), FINE, shift));
    const context = canvas.getContext("2d"), image = context.createImageData(FINE, FINE);
    for (let y = 0, at = 0; y < FINE; y++) {
      for (let x = 0; x < FINE; x++, at += 4) {
        const light = Math.min(1, Math.max(0, columns[x][y] / 255));
        const warm = 0.42 * light, dark = 0.64 * (1 - light); // share of the warm colour, share of black
        const share = warm + dark;
        image.data[at] = (255 * warm) / share;
        image.data[at + 1] = (150 * warm) / share;
        image.data[at + 2] = (30 * warm) / share;
        image.data[at + 3] = 255 * share;
      }
    }
    context.putImageData(image, 0, 0);
  }

  function lit(picture, attention, word) {
    picture.classList.toggle("lit", Boolean(attention) && word !== null);
    if (attention && word !== null) paint(picture.querySelector("canvas"), attention.of(word), attention);
  }

  // ---- cards

  const percent = (chance) => chance === null || chance === undefined ? "" : `${Math.min(99, Math.round(100 * chance))}%`; // nothing is certain
  const format = (value, digits = 1) => value.toFixed(digits).replace("-", "−");
  const figures = (image) => `CIDEr-D ${format(100 * index.cider[image])}` +
    (index.marks[image].length ? " · " + index.marks[image].join(", ") : "");

  function card(image) {
    const element = byId("card").content.firstElementChild.cloneNode(true);
    const picture = element.querySelector(".picture"), caption = element.querySelector(".caption");
    element.dataset.image = image;
    picture.setAttribute("aria-label", "Open: " + index.captions[image]);
    picture.onclick = () => open(image);
    caption.textContent = index.captions[image];
    element.querySelector(".figures").textContent = figures(image);
    return element;
  }

  async function fill(element) { // when it comes into sight
    const image = Number(element.dataset.image), detail = await details(image);
    const picture = element.querySelector(".picture"), caption = element.querySelector(".caption");
    picture.querySelector("img").src = "data:image/jpeg;base64," + detail.picture;
    const attention = attentionOf(detail), wanted = terms();
    caption.textContent = "";
    detail.words.forEach((word, place) => {
      const span = document.createElement(found(word, wanted) ? "mark" : "span");
      const holder = document.createElement("span");
      span.textContent = word;
      holder.append(span);
      caption.append(holder, " ");
      if (!attention) return;
      const show = (on) => {
        caption.querySelectorAll(".on").forEach((other) => other.classList.remove("on"));
        holder.classList.toggle("on", on);
        lit(picture, attention, on ? place : null);
      };
      holder.onpointerenter = (event) => { if (event.pointerType === "mouse") show(true); };
      holder.onpointerleave = (event) => { if (event.pointerType === "mouse") show(false); };
      holder.onpointerup = (event) => { if (event.pointerType !== "mouse") show(!holder.classList.contains("on")); };
    });
    element.dataset.filled = "yes";
  }

  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fill(target).catch((error) => { target.querySelector(".figures").textContent = error.message; });
    }
  }, { rootMargin: "300px" });

  // ---- order and search

  const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}'<>-]+/u).filter(Boolean);
  const terms = () => words(byId("query").value);
  const found = (text, wanted) => wanted.length > 0 && words(text).some((word) => wanted.some((term) => word.startsWith(term)));
  const matches = (texts, wanted) => {
    const all = texts.flatMap(words);
    return wanted.every((term) => all.some((word) => word.startsWith(term)));
  };
  let list = [], shown = 0, seed = 1;

  function shuffled(images) { // a small generator of our own, so that pages and tests can repeat an order
    let state = seed;
    const random = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 2 ** 32; };
    for (let last = images.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [images[last], images[other]] = [images[other], images[last]];
    }
    return images;
  }

  function ordered() {
    const order = document.querySelector("[name=order]:checked").value;
    if (order === "file") return index.captions.map((_, image) => image);
    if (order === "random") return shuffled(index.order.slice());
    return order === "best" ? index.order.slice() : index.order.slice().reverse();
  }

  let latest = 0;
  async function update() {
    const turn = ++latest, wanted = terms(), marks = [...document.querySelectorAll("#marks input:checked")].map((box) => box.value);
    const everywhere = wanted.length && byId("everywhere").checked;
    const references = everywhere ? await part("references") : null;
    if (turn !== latest) return; // typed on in the meantime
    list = ordered().filter((image) =>
      marks.every((mark) => index.marks[image].includes(mark)) &&
      (!wanted.length || matches([index.captions[image], ...(references ? references[image] : [])], wanted)));
    near.disconnect();
    byId("cards").replaceChildren();
    shown = 0;
    const total = index.captions.length;
    byId("count").textContent = list.length === total ? `${total} images` : list.length ? `${list.length} of ${total} images` :
      `None of ${total} images. Try another word${byId("everywhere").checked ? "" : ", or search the references too"}.`;
    more();
  }

  function more() {
    const fresh = list.slice(shown, shown + PAGE).map(card);
    shown += fresh.length;
    byId("cards").append(...fresh);
    fresh.forEach((element) => near.observe(element));
    byId("more").hidden = shown >= list.length;
  }

  // ---- one image

  const viewer = byId("viewer");
  let current = null, timer = null;

  const item = (text, aside) => {
    const element = document.createElement("li");
    element.append(text);
    if (aside) {
      const note = document.createElement("span");
      note.className = "aside";
      note.textContent = " " + aside;
      element.append(note);
    }
    return element;
  };

  async function open(image) {
    stop();
    current = image;
    const [detail, references] = await Promise.all([details(image), part("references")]);
    if (current !== image) return;
    const picture = viewer.querySelector(".stage .picture"), source = "data:image/jpeg;base64," + detail.picture;
    picture.querySelector("img").src = source;
    picture.querySelector("img").alt = index.captions[image];
    byId("said").textContent = index.captions[image] || "(nothing)";
    byId("place").textContent = `${list.indexOf(image) + 1} of ${list.length}`;
    const attention = attentionOf(detail);
    byId("words").replaceChildren(...(attention ? detail.words.map((word, place) => tile(word, place, attention, source, detail.probabilities[place])) : []));
    byId("play").hidden = !attention;
    choose(null);
    byId("numbers").replaceChildren(...[
      ["CIDEr-D", format(100 * index.cider[image])],
      ["Log probability", format(detail.logprob, 2) + (detail.finished ? "" : ", unfinished")],
      ...["As good as the median", "All of it true"].map((name, kind) => [name, percent(detail.chances[kind])]).filter(([, value]) => value),
      ["Image", index.ids[image] + (index.marks[image].length ? ` (${index.marks[image].join(", ")})` : "")],
    ].map(([name, value]) => {
      const pair = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      pair.append(term, text);
      return pair;
    }));
    byId("references").replaceChildren(...references[image].map((text) => item(text)));
    byId("beams").replaceChildren(...detail.beams.map(([text, logprob]) => item(text || "(nothing)", format(logprob, 2))));
    byId("beams-part").hidden = !detail.beams.length;
    byId("nearest-part").hidden = !detail.nearest;
    if (detail.nearest) {
      const [text, similarity] = detail.nearest;
      byId("nearest").replaceChildren(...item(text, text === detail.words.join(" ") ? "word for word" : `${Math.round(100 * similarity)}% alike`).childNodes);
    }
    byId("previous").disabled = list.indexOf(image) <= 0;
    byId("next").disabled = list.indexOf(image) >= list.length - 1;
    if (!viewer.open) viewer.showModal();
    viewer.scrollTop = 0;
  }

  function tile(word, place, attention, source, chance) {
    const element = document.createElement("li"), button = document.createElement("button");
    const small = document.createElement("span"), image = document.createElement("img"), canvas = document.createElement("canvas");
    button.type = "button";
    small.className = "picture";
    image.src = source;
    image.alt = "";
    canvas.width = canvas.height = FINE;
    small.append(image, canvas);
    button.append(small, word);
    button.word = word + (chance === undefined ? "" : `, ${percent(chance)}`);
    button.title = button.word;
    lit(small, attention, place);
    button.onpointerenter = (event) => { if (event.pointerType === "mouse") choose(place); };
    button.onpointerleave = (event) => { if (event.pointerType === "mouse") choose(null); };
    button.onfocus = button.onclick = () => choose(place);
    button.tabIndex = place ? -1 : 0;
    button.attention = attention;
    element.append(button);
    return element;
  }

  function choose(place) { // show one word's attention on the large picture
    const buttons = [...byId("words").querySelectorAll("button")];
    buttons.forEach((button, other) => button.classList.toggle("on", other === place));
    lit(viewer.querySelector(".stage .picture"), place === null ? null : buttons[place].attention, place);
    byId("word").textContent = place === null ? "" : buttons[place].word;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    byId("play").textContent = "▶ Word by word";
  }

  byId("play").onclick = () => {
    if (timer) { stop(); choose(null); return; }
    const count = byId("words").children.length;
    let place = 0;
    choose(place);
    byId("play").textContent = "■ Stop";
    timer = setInterval(() => { place += 1; if (place < count) choose(place); else { stop(); choose(null); } }, 800);
  };
  const move = (by) => {
    const image = list[list.indexOf(current) + by];
    if (image === undefined) return;
    while (shown <= list.indexOf(image)) more();
    open(image);
  };
  byId("previous").onclick = () => move(-1);
  byId("next").onclick = () => move(1);
  byId("close").onclick = () => viewer.close();
  viewer.onclick = (event) => { if (event.target === viewer) viewer.close(); };
  viewer.onclose = () => {
    stop();
    const from = document.querySelector(`.card[data-image="${current}"] .picture`);
    current = null;
    if (from) from.focus();
  };
  viewer.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...byId("words").querySelectorAll("button")], place = buttons.indexOf(document.activeElement);
    if (place < 0) return move(by);
    const next = buttons[Math.min(buttons.length - 1, Math.max(0, place + by))];
    buttons.forEach((button) => { button.tabIndex = button === next ? 0 : -1; });
    next.focus();
  };

  // ---- the page

  let typing = null;
  byId("query").oninput = () => { clearTimeout(typing); typing = setTimeout(update, 90); };
  byId("everywhere").onchange = update;
  byId("more").onclick = more;
  byId("order").onclick = (event) => { // a second click on Random draws again
    if (event.target.value === "random") { seed += 1; update(); }
  };
  byId("order").onchange = (event) => { if (event.target.value !== "random") update(); };
  document.onkeydown = (event) => {
    if (event.key === "/" && !viewer.open && document.activeElement.type !== "search") {
      event.preventDefault();
      byId("query").focus();
    }
  };
  [...new Set(index.marks.flat())].sort().forEach((mark) => {
    const label = document.createElement("label"), box = document.createElement("input");
    label.className = "tick-box";
    box.type = "checkbox";
    box.value = mark;
    box.onchange = update;
    label.append(box, " only " + mark);
    label.title = {
      unseen: "images that show a thing in a colour or setting that it has in no training image",
      untrue: "captions that name a thing or a colour that is not in the image",
    }[mark] || "";
    byId("marks").append(label);
  });
  update();
})();
