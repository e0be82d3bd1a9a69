// Sorting the list of cases by a column: by numbers where the cells have them, what is undefined always last.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const numeric = head.dataset.numeric !== undefined;
    const key = (row) => (numeric ? row.cells[column].dataset.value : row.cells[column].textContent);
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const compare = (a, b) => {
        if (!numeric) return (up ? 1 : -1) * key(a).localeCompare(key(b), "en", { numeric: true });
        if (key(a) === "" || key(b) === "") return Number(key(a) === "") - Number(key(b) === "");
        return (up ? 1 : -1) * (Number(key(a)) - Number(key(b)));
      };
      body.append(...[...body.rows].sort(compare));
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
