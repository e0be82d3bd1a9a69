// Sorting the list of cases by a column: by numbers where the cells have them, what is undefined always last.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const numeric = head.dataset.numeric !== undefined;
      const compare = (a, b) => {
        if (!numeric) return key(a).localeCompare(key(b), "en", { numeric: true });
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "") ? ((key(a) === "") - (key(b) === "")) * (up ? 1 : -1) : 0;
        return Number(key(a)) - Number(key(b));
      };
      const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b));
      body.append(...rows);
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
