"use strict";
// Column heads become buttons that sort; without this script the tables are as they are written.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const text = row.cells[column].innerText.trim();
    // A figure may have thousands, stand before its interval, or be "< 1 %".
    const [, less, number] = text.replaceAll(",", "").match(/^(<?)\s*([-+]?[\d.]+)/) ?? [];
    return number === undefined ? text : parseFloat(number) - (less ? 0.5 : 0);
  };
  const missing = (value) => value === "" || value === "–" || value === "n/a";
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const before = head.getAttribute("aria-sort");
      // Figures start with the highest, names with the first of the alphabet.
      const numbers = rows.some((row) => typeof key(row, column) === "number");
      const next = before === null ? (numbers ? "descending" : "ascending")
        : before === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      rows.sort((one, two) => {
        const [a, b] = [key(one, column), key(two, column)];
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        return sign * compare(a, b);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
