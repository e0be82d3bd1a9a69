// Points of plots are links to the viewer. Hundreds lie side by side: a click takes the nearest one, and the Tab key
// stops once at each plot, in which the arrows go from point to point.

const REACH = 16; // pixels of the screen: about a fingertip

function points(svg) {
  const links = [...svg.querySelectorAll("a")];
  if (!links.length) return;
  const target = (link) => link.getAttribute("xlink:href") ?? link.getAttribute("href");
  links.forEach((link, i) => {
    const to = new URLSearchParams(target(link).slice(1));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = [to.get("case"), to.has("slice") ? "slice " + to.get("slice") : "", to.get("run")].filter(Boolean).join(", ");
    link.prepend(title);
    link.setAttribute("aria-label", title.textContent);
    link.setAttribute("tabindex", i ? "-1" : "0");
  });

  const distance = (link, event) => {
    const box = link.getBoundingClientRect();
    return Math.hypot((box.left + box.right) / 2 - event.clientX, (box.top + box.bottom) / 2 - event.clientY);
  };
  svg.addEventListener("click", (event) => {
    if (event.detail === 0 || event.ctrlKey || event.metaKey || event.shiftKey) return; // Enter, or for another tab
    const nearest = links.map((link) => [distance(link, event), link]).reduce((a, b) => (b[0] < a[0] ? b : a));
    if (nearest[0] > REACH) return;
    event.preventDefault();
    location.hash = target(nearest[1]);
  });

  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const now = links.indexOf(document.activeElement);
    if (!step || now < 0) return;
    event.preventDefault();
    const next = links[(now + step + links.length) % links.length];
    links[now].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
