(() => {
  const form = document.querySelector("form.filter");
  const rows = [...document.querySelectorAll("details.answer")];
  const shown = document.querySelector("#shown");
  const look = () => {
    const text = form.elements.text.value.toLowerCase();
    const kind = form.elements.kind.value;
    const tag = form.elements.tag.value;
    let count = 0;
    for (const row of rows) {
      const hit =
        (kind === "all" || row.dataset.kinds.split(" ").includes(kind)) &&
        (tag === "" || JSON.parse(row.dataset.tags).includes(tag)) &&
        (text === "" || row.textContent.toLowerCase().includes(text));
      row.hidden = !hit;
      count += hit;
    }
    shown.textContent = `${count} of ${rows.length} answers`;
  };
  form.addEventListener("input", look);
  form.addEventListener("submit", (event) => event.preventDefault());
  look();
})();
