"use strict";
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const find = document.getElementById("find");
  const state = document.getElementById("state");
  const count = document.getElementById("count");
  const rows = Array.from(table.tBodies[0].rows);
  const show = () => {
    const part = find.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = row.cells[0].textContent.toLowerCase().includes(part)
        && (!state.value || row.cells[1].textContent === state.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === rows.length ? "" : shown + " of " + rows.length;
  };
  find.addEventListener("input", show);
  state.addEventListener("change", show);
  document.getElementById("controls").hidden = false;
})();
