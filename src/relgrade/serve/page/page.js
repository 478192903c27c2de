// Moves the threshold, sorts, copies and scrolls to evidence; grading itself is htmx's business. Works on whatever the results hold now.
(() => {
  "use strict";
  const find = (id) => document.getElementById(id);

  function judge() {
    const slider = find("threshold");
    if (!slider) return;
    // The untouched slider stands for the point itself, whose threshold has more digits than the slider has steps.
    const isPoint = slider.dataset.moved !== "yes";
    const threshold = Number(isPoint ? slider.dataset.threshold : slider.value);
    let kept = 0;
    for (const row of document.querySelectorAll("#graded > li")) {
      if (row.dataset.probability !== "" && !isPoint) {
        const isKept = Number(row.dataset.probability) >= threshold;
        row.classList.toggle("kept", isKept);
        row.classList.toggle("dropped", !isKept);
      }
      for (const end of ["x1", "x2"]) row.querySelector(".mark").setAttribute(end, String(Math.round(threshold * 1000)));
      kept += row.classList.contains("kept") ? 1 : 0;
    }
    find("threshold-value").textContent = threshold.toFixed(2);
    find("n-kept").textContent = String(kept);
    find("none-kept").hidden = kept > 0;
    if (!isPoint) find("point-name").textContent = "your own threshold";
  }

  function sort() {
    const list = find("graded");
    const isSorted = find("sorted").checked;
    const rows = [...list.children];
    const value = (row) => (isSorted ? -Number(row.dataset.probability || -1) : Number(row.dataset.index));
    rows.sort((a, b) => value(a) - value(b) || Number(a.dataset.index) - Number(b.dataset.index));
    list.append(...rows);
  }

  // A long document scrolls in its box; what speaks for it should be in sight.
  function reveal() {
    for (const mark of document.querySelectorAll("#graded mark.best")) {
      const box = mark.parentElement;
      const [inner, outer] = [mark.getBoundingClientRect(), box.getBoundingClientRect()];
      if (inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - 24;
    }
  }

  async function copy(button) {
    const text = find(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(find(button.dataset.copy)); // no permission: Ctrl C is left to the user
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  document.addEventListener("input", (event) => {
    if (event.target.id === "threshold") {
      event.target.dataset.moved = "yes";
      judge();
    }
    if (event.target.id === "sorted") sort();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("htmx:after:swap", reveal);
  document.addEventListener("DOMContentLoaded", reveal);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "point" && find("graded")) find("ask").requestSubmit();
  });
})();
