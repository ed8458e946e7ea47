// Everything works without this file: it only saves clicks.
"use strict";

const figures = document.getElementById("figures");
if (figures) {
  // Chained, so that a slow answer is never overtaken by the next request.
  const update = async () => {
    if (!document.hidden) {
      try {
        const response = await fetch(figures.dataset.source, { redirect: "manual" });
        if (response.ok) {
          figures.innerHTML = await response.text();
        }
      } catch {
        // The server is away for a moment; the age of the figures is on the page.
      }
    }
    setTimeout(update, Number(figures.dataset.seconds) * 1000);
  };
  setTimeout(update, Number(figures.dataset.seconds) * 1000);
}

for (const button of document.querySelectorAll("[data-choose=all]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const boxes = [...button.form.querySelectorAll("input[type=checkbox]")];
    const chooses = boxes.some((box) => !box.checked);
    for (const box of boxes) {
      box.checked = chooses;
    }
    button.textContent = chooses ? "Choose none" : "Choose all";
  });
}
