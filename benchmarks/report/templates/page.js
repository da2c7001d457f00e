const key = c => {
  const t = c.textContent, n = parseFloat(t);
  return isNaN(n) ? t : n
};
document.querySelectorAll("table.sorts th").forEach((th, k) => th.onclick = () => {
  const down = th.getAttribute("aria-sort") !== "descending", sign = down ? -1 : 1;
  const body = th.closest("table").tBodies[0], place = th.cellIndex;
  th.parentNode.querySelectorAll("th").forEach(o => o.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  [...body.rows].sort((a, b) => {
    const x = key(a.cells[place]), y = key(b.cells[place]);
    return typeof x === typeof y ? sign * (x < y ? -1 : x > y ? 1 : 0)
      : typeof x === "number" ? -1 : 1
  }).forEach(row => body.append(row))
});
