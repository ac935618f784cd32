// Sorts tables at a click on a heading; shows the values of curves under the pointer.
document.querySelectorAll("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    const sort = () => {
      const numeric = head.classList.contains("number");
      const descending = head.ariaSort ? head.ariaSort === "ascending" : numeric;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.ariaSort = descending ? "descending" : "ascending";
      const sign = descending ? -1 : 1;
      [...body.rows].sort((a, b) => sign * (numeric ? key(a, column) - key(b, column)
        : key(a, column).localeCompare(key(b, column)))).forEach(row => body.append(row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
});
document.querySelectorAll("svg[data-series]").forEach(svg => {
  const series = JSON.parse(svg.dataset.series), cursor = svg.querySelector(".cursor");
  const values = [...svg.parentElement.querySelectorAll(".legend b")], places = series.places, width = svg.viewBox.baseVal.width;
  const show = index => {
    cursor.style.visibility = index === null ? "hidden" : "visible";
    if (index !== null) { cursor.setAttribute("x1", places[index]); cursor.setAttribute("x2", places[index]); }
    values.forEach((value, i) => { value.textContent = index === null ? "" : " " + (series.values[i][index] ?? "–"); });
    const where = svg.parentElement.querySelector(".where");
    if (where) where.textContent = index === null ? "" : series.label + " " + series.names[index];
  };
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
    let best = 0;
    places.forEach((place, i) => { if (Math.abs(place - x) < Math.abs(places[best] - x)) best = i; });
    show(best);
  });
  svg.addEventListener("pointerleave", () => show(null));
});
