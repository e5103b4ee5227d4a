// What works better with a script: search, a count, buttons that copy, the store's own address in commands.
"use strict";

const store = new URL(document.querySelector(".filters") ? ".." : "../..", location.href).href.replace(/\/$/, "");

for (const block of document.querySelectorAll("pre")) {
  block.textContent = block.textContent.replaceAll("https://THIS-STORE", store);
  if (!navigator.clipboard) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent.trimEnd());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.before(button);
}

const search = document.querySelector("#search");
if (search) {
  const cards = [...document.querySelectorAll(".card")];
  const count = document.querySelector(".count");
  const tell = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const card of cards) {
      const text = card.textContent.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word));
    }
    const shown = cards.filter((card) => card.checkVisibility()).length;
    count.textContent = `${shown} of ${cards.length} appliances`;
  };
  search.closest("[hidden]").hidden = false;
  document.querySelector(".filters").addEventListener("input", tell);
  tell();
}

for (const time of document.querySelectorAll("time")) {
  const days = Math.floor((Date.now() - Date.parse(time.dateTime)) / 86400000);
  if (days >= 0) time.textContent += days === 0 ? " (today)" : days === 1 ? " (1 day ago)" : ` (${days} days ago)`;
}
