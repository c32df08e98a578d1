"use strict";
// Looks at the page it stands in, and tells the frame around it what it found.
addEventListener("load", () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const short = (element) => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 40)}`;

  const rgba = (text) => {
    const parts = text.match(/[\d.]+/g).map(Number);
    return parts.length === 4 ? parts : [...parts, 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const backdrop = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const below = backdrop(element);
    const [one, two] = [over(rgba(getComputedStyle(element).color), below), below].map(luminance);
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  };
  const texts = all("body *").filter((element) =>
    !["SCRIPT", "STYLE"].includes(element.tagName) &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));

  const column = (table, index) => [...table.tBodies[0].rows].map((row) => row.cells[index].innerText.trim());
  const tables = all("table").map((table) => ({
    caption: table.caption ? table.caption.textContent.trim() : "",
    unscoped: [...table.querySelectorAll("th")].filter((head) => !head.scope).map(short),
    sortable: table.classList.contains("sortable"),
    sorted: [...(table.tHead ? table.tHead.rows[0].cells : [])].map((head, index) => {
      const button = head.querySelector("button");
      if (!button) return null;
      const before = column(table, index);
      const turns = [0, 1].map(() => {
        button.click();
        return { order: head.getAttribute("aria-sort"), values: column(table, index) };
      });
      const marked = [...table.tHead.rows[0].cells].filter((other) => other.hasAttribute("aria-sort"));
      return { before, turns, marked: marked.length };
    }),
  }));

  const away = (element) => element.closest(".scroll") || element.closest(".hidden, .skip");
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    scroll: document.documentElement.scrollWidth,
    outside: all("body *").filter((element) => !away(element)
      && element.getBoundingClientRect().right > innerWidth + 0.5).map(short),
    images: all("img").map((image) => ({ width: image.naturalWidth, alt: image.alt })),
    resources: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 80)),
    faint: texts.map((element) => [contrast(element), short(element)]).filter(([ratio]) => ratio < 4.5),
    texts: texts.length,
    ground: luminance(backdrop(document.body)),
    headings: all("h1, h2, h3, h4").map((head) => [Number(head.tagName[1]), head.textContent.trim()]),
    landmarks: ["header", "nav", "main"].filter((name) => document.querySelector(name)),
    dead: all('a[href^="#"]').map((link) => link.hash.slice(1)).filter((id) => !document.getElementById(id)),
    focusable: all(".scroll").filter((box) => box.tabIndex !== 0 || !box.getAttribute("aria-label")).length,
    tables,
  }), "*");
});
