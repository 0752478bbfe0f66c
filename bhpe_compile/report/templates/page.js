"use strict";
(() => {
  const number = new RegExp("^-?[0-9.]+(e[-+]?[0-9]+)?$");
  const keyOf = (row, column) => row.cells[column].dataset.key;

  const sort = (table, column, descending) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const numeric = table.tHead.rows[0].cells[column].classList.contains("n");
    rows.sort((a, b) => {
      const x = keyOf(a, column), y = keyOf(b, column);
      const order = numeric && number.test(x) && number.test(y) ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
      return descending ? -order : order;
    });
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      cell.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending");
    });
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const controls = document.querySelector(`.controls[data-for="${table.id}"]`);
    const filters = [...controls.querySelectorAll("[data-filter]")];
    const told = controls.querySelector("output");
    const empty = table.closest("section").querySelector(".empty");

    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.firstElementChild.addEventListener("click", () => {
        const now = cell.getAttribute("aria-sort");
        const descending = now === "none" ? cell.classList.contains("n") : now === "ascending";
        sort(table, column, descending);
      });
    });

    const filter = () => {
      let shown = 0;
      const rows = [...table.tBodies[0].rows];
      for (const row of rows) {
        const keep = filters.every((one) =>
          one.dataset.filter === "text"
            ? row.cells[0].textContent.toLowerCase().includes(one.value.trim().toLowerCase())
            : one.value === "" || row.dataset[one.dataset.filter] === one.value);
        row.hidden = !keep;
        shown += keep;
      }
      told.textContent = `${shown} of ${rows.length} ${table.dataset.noun}`;
      empty.hidden = shown > 0;
    };
    filters.forEach((one) => one.addEventListener("input", filter));
    controls.querySelector("[data-clear]").addEventListener("click", () => {
      filters.forEach((one) => { one.value = ""; });
      filter();
      filters[0].focus();
    });
    controls.hidden = false;
  }
})();
