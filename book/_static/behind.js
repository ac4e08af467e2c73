/* What stands behind a number: hovering, focusing or clicking it names its runs, and the command that repeats one. */
(() => {
  const numbers = [...document.querySelectorAll(".behind")];
  if (!numbers.length) return;
  const root = document.currentScript.src.replace(/_static\/behind\.js.*/, "");
  const panel = document.createElement("div");
  panel.className = "behind-panel";
  panel.id = "behind-panel";
  panel.setAttribute("role", "dialog");
  panel.setAttribute("aria-label", "The runs behind this number");
  panel.hidden = true;
  document.body.append(panel);
  let shown = null;
  let kept = false; // clicked: stays until Escape or a click elsewhere
  let leaving = 0;

  const text = (tag, content, parent, name) => {
    const element = document.createElement(tag);
    element.textContent = content;
    if (name) element.className = name;
    parent.append(element);
    return element;
  };

  function fill(number) {
    const keys = number.dataset.runs.split(" ");
    panel.replaceChildren();
    text("p", `${number.textContent.trim()} comes from ${keys.length === 1 ? "1 run" : `${keys.length} runs`}:`, panel);
    const list = text("div", "", panel, "behind-keys");
    if (keys.length > 12) list.tabIndex = 0; // it scrolls
    keys.forEach((key, i) => {
      if (i) list.append(" ");
      text("code", key, list);
    });
    text("p", keys.length === 1 ? "This repeats it:" : "This repeats the first:", panel);
    text("code", `python -m mlp_lib train --key ${keys[0]} --out again`, panel, "behind-command");
    text("a", "What a record is", text("p", "", panel)).href = `${root}book/records.html#behind-a-number`;
  }

  function show(number, keep) {
    clearTimeout(leaving);
    if (shown !== number) {
      hide();
      shown = number;
      fill(number);
      panel.hidden = false;
      number.setAttribute("aria-expanded", "true");
      const at = number.getBoundingClientRect();
      const width = document.documentElement.clientWidth;
      panel.style.left = `${Math.max(8, Math.min(at.left, width - panel.offsetWidth - 8)) + scrollX}px`;
      const above = at.bottom + panel.offsetHeight + 8 > innerHeight && at.top > panel.offsetHeight + 8;
      panel.style.top = `${(above ? at.top - panel.offsetHeight - 4 : at.bottom + 4) + scrollY}px`;
    }
    kept = kept || keep;
  }

  function hide() {
    clearTimeout(leaving);
    if (!shown) return;
    shown.setAttribute("aria-expanded", "false");
    panel.hidden = true;
    shown = null;
    kept = false;
  }

  const leave = () => {
    if (!kept) leaving = setTimeout(hide, 300);
  };

  for (const number of numbers) {
    const table = number.closest("table");
    const first = !table || table.querySelector(".behind") === number;
    number.tabIndex = first ? 0 : -1; // one stop a table; the arrow keys lead to its other numbers
    number.setAttribute("role", "button");
    number.setAttribute("aria-expanded", "false");
    number.setAttribute("aria-haspopup", "dialog");
    number.setAttribute("aria-controls", panel.id);
    number.addEventListener("mouseenter", () => kept || show(number, false));
    number.addEventListener("mouseleave", leave);
    number.addEventListener("focus", () => number.matches(":focus-visible") && show(number, false));
    number.addEventListener("blur", (event) => panel.contains(event.relatedTarget) || kept || leave());
    number.addEventListener("click", (event) => {
      event.preventDefault();
      if (shown === number && kept) hide();
      else show(number, true);
    });
    number.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        show(number, true);
        panel.querySelector("a").focus({ preventScroll: true });
      }
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step && table) {
        const all = [...table.querySelectorAll(".behind")];
        const next = all[all.indexOf(number) + step];
        if (next) {
          event.preventDefault();
          next.focus();
        }
      }
    });
  }

  panel.addEventListener("mouseenter", () => clearTimeout(leaving));
  panel.addEventListener("mouseleave", leave);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && shown) {
      const back = panel.contains(document.activeElement) ? shown : null;
      hide();
      if (back) back.focus({ preventScroll: true });
      hide();
    }
  });
  document.addEventListener("click", (event) => {
    if (shown && !panel.contains(event.target) && !event.target.closest(".behind")) hide();
  });
})();
