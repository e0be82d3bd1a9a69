// Light, dark, or as the system says. A page from a file may have no storage: then the choice lasts as long as the page.

function themed(button) {
  const names = ["auto", "light", "dark"];
  const key = "boundseg-theme";
  const show = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = "Theme: " + name;
    button.dataset.now = name;
  };
  let kept = "auto";
  try { kept = localStorage.getItem(key) ?? "auto"; } catch { /* no storage */ }
  show(names.includes(kept) ? kept : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = names[(names.indexOf(button.dataset.now) + 1) % names.length];
    show(next);
    try { localStorage.setItem(key, next); } catch { /* no storage */ }
  });
}
