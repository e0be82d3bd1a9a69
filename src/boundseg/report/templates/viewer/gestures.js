// Keys, wheel and fingers on the viewer; each calls one of the actions.

const KEYS = {
  ArrowUp: (act) => act.slice(1),
  ArrowDown: (act) => act.slice(-1),
  ArrowRight: (act) => act.case(1),
  ArrowLeft: (act) => act.case(-1),
  0: (act) => act.overlays(),
  f: (act) => act.fill(),
  z: (act) => act.zoom(),
  "?": (act) => act.help(),
};

function listen(section, stage, act) {
  section.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // a list and the slider have their own arrows
    const own = event.target.matches("select, input[type=range]") && event.key.startsWith("Arrow");
    if (own || event.target.closest("dialog")) return;
    if (/^[1-9]$/.test(event.key)) act.layer(Number(event.key) - 1);
    else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key](act);
    else return;
    event.preventDefault();
  });

  // the wheel scrolls the page until the picture has been clicked
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage) return;
    event.preventDefault();
    act.slice(event.deltaY > 0 ? -1 : 1);
  }, { passive: false });

  // sideways: up and down stay the page's own
  const STEP = 18;
  let from = null;
  stage.addEventListener("pointerdown", (event) => {
    from = event.clientX;
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const steps = Math.trunc((event.clientX - from) / STEP);
    if (!steps) return;
    from += steps * STEP;
    act.slice(steps);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { from = null; });
}
