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
          const text = await response.text();
          // What is open stays open, and the focus stays where it is.
          const open = [...figures.querySelectorAll("details")].map((one) => one.open);
          const focused = figures.contains(document.activeElement) ? document.activeElement.outerHTML : "";
          figures.innerHTML = text;
          const details = [...figures.querySelectorAll("details")];
          if (details.length === open.length) {
            details.forEach((one, number) => { one.open = open[number]; });
          }
          [...figures.querySelectorAll("a, summary")].find((one) => one.outerHTML === focused)?.focus();
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
