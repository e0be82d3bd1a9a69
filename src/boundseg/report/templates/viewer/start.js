// The viewer: what is open, what is switched on, and the address that says so (#case=…&slice=…&run=…).

function viewer(section) {
  const about = JSON.parse(document.getElementById("viewer-index").textContent);
  const find = (name) => section.querySelector("[data-part=" + name + "]");
  const [canvas, stage, note, picker, slider] = ["canvas", "stage", "note", "case", "slice"].map(find);
  const switches = [...section.querySelectorAll("input[data-layer]")];
  const names = about.cases.map((one) => one.name);
  let data = null;
  let open = { case: null, slice: 0 };
  let turn = 0; // decoding takes a while: only the last request is drawn

  const on = (name) => find(name).checked;
  const flip = (box) => { box.checked = !box.checked; show(); };

  async function show() {
    if (!data) return;
    const mine = ++turn;
    const [count, rows, columns] = data.shape;
    const index = open.slice;
    slider.max = count - 1;
    slider.value = index;
    slider.setAttribute("aria-valuetext", "slice " + index + " of 0 to " + (count - 1));
    find("where").textContent = "slice " + index + " of 0 to " + (count - 1);
    const picked = about.classes.filter((one) => section.querySelector("input[data-class='" + one.value + "']").checked);
    const wanted = about.layers.map((layer, i) => ({ ...layer, packed: data.layers[i] }))
      .filter((layer, i) => layer.packed && switches[i].checked);
    const image = on("image") ? await decodeImage(data.images[index]) : null;
    const layers = await Promise.all(wanted.map(async (layer) => ({
      labels: await decodeLabels(layer.packed[index], rows * columns),
      colour: layer.colour,
      weak: layer.kind === "weak",
      // runs have colours of their own, unless colours are those of the classes
      dash: layer.kind === "run" && !on("by-class") ? [] : layer.dash,
    })));
    if (mine !== turn) return;
    draw(canvas, {
      image, layers, fill: on("fill"), byClass: on("by-class"), classes: picked, shape: [rows, columns],
      part: on("zoom") ? data.window : [0, rows, 0, columns], spacing: data.spacing_mm,
    });
    const drawn = wanted.map((layer) => layer.name).join(", ") || "no layer";
    canvas.setAttribute("aria-label", open.case + ", slice " + index + ", with " + drawn);
    fillFacts(find("slice-facts"), index, data, about);
    fillFacts(find("volume-facts"), null, data, about);
    section.dataset.drawn = open.case + "/" + index; // for whoever waits for it
    history.replaceState(null, "", "#" + new URLSearchParams({ case: open.case, slice: index }));
  }

  function missing(name) {
    if (about.left_out.includes(name)) return " has no room in this page: a larger boundseg report --megabytes has.";
    if (about.not_asked.includes(name)) return " is not in this page: boundseg report --cases names others.";
    return " is no case of this page.";
  }

  function go(name, index, run) {
    const found = names.includes(name) ? (name === open.case ? data : readCase(name)) : null;
    note.textContent = found ? "" : name + missing(name);
    if (!found) return;
    data = found;
    const wanted = Number.isInteger(index) ? index : Math.floor(data.shape[0] / 2);
    open = { case: name, slice: Math.min(Math.max(wanted, 0), data.shape[0] - 1) };
    picker.value = name;
    switches.forEach((box, i) => {
      const layer = about.layers[i];
      if (run && layer.kind === "run") box.checked = layer.name === run;
      box.disabled = !data.layers[i];
      box.closest("label").title = data.layers[i] ? "" : "this case has none";
    });
    show();
  }

  // returns whether the address is one of a case
  function follow(scroll) {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!asked.has("case")) return false;
    go(asked.get("case"), asked.has("slice") ? Number(asked.get("slice")) : undefined, asked.get("run"));
    if (scroll) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      section.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
      stage.focus({ preventScroll: true });
    }
    return true;
  }

  const act = {
    slice: (step) => go(open.case, open.slice + step),
    case: (step) => go(names[(names.indexOf(open.case) + step + names.length) % names.length]),
    layer: (i) => { if (switches[i] && !switches[i].disabled) flip(switches[i]); },
    overlays: () => {
      const any = switches.some((box) => box.checked);
      switches.forEach((box) => { box.checked = !any; });
      show();
    },
    fill: () => flip(find("fill")),
    zoom: () => flip(find("zoom")),
    help: () => find("help").showModal(),
  };
  listen(section, stage, act);
  picker.addEventListener("change", () => go(picker.value));
  slider.addEventListener("input", () => go(open.case, Number(slider.value)));
  section.querySelectorAll("button[data-step]").forEach((button) => {
    button.addEventListener("click", () => act[button.dataset.step](Number(button.dataset.by)));
  });
  find("ask").addEventListener("click", act.help);
  section.querySelectorAll("input[type=checkbox]").forEach((box) => box.addEventListener("change", show));
  window.addEventListener("hashchange", () => follow(true));
  section.querySelector("[data-part=live]").hidden = false;
  // without a case in the address the first is open, and the address stays as it was until something is moved
  if (!follow(true) && names.length) {
    const before = location.href;
    go(names[0]);
    history.replaceState(null, "", before);
  }
}

themed(document.getElementById("theme"));
document.querySelectorAll("svg").forEach(points);
document.querySelectorAll("table.sortable").forEach(sortable);
if (document.getElementById("viewer-index")) viewer(document.getElementById("viewer"));
