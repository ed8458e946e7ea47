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
          const open = [...figures.querySelectorAll("details")].map((one) => one.open);
          const focused = document.activeElement;
          const isInside = figures.contains(focused) && focused !== figures;
          // Whoever reads a list with the keyboard keeps it: the figures wait.
          if (!isInside) {
            figures.innerHTML = await response.text();
            const now = [...figures.querySelectorAll("details")];
            if (now.length === open.length) {
              now.forEach((one, number) => { one.open = open[number]; });
            }
          }
        }
      } catch {
        // The server is away for a moment; the age of the figures is on the page.
      }
    }
    setTimeout(update, Number(figures.dataset.seconds) * 1000);
  };
  setTimeout(update, Number(figures.dataset.seconds) * 1000);
}

for (const button of document.querySelectorAll("[data-choose]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const boxes = [...button.form.querySelectorAll("input[type=checkbox]")];
    const chooses = boxes.some((box) => !box.checked);
    for (const box of boxes) {
      box.checked = chooses;
    }
    button.textContent = chooses ? "Choose none" : `Choose the ${button.dataset.choose}`;
  });
}
