// What the theme leaves out for assistive technology and the keyboard.
(() => {
  const [searchLabel, tableLabel] = document.documentElement.lang === "zh" ? ["搜索", "表格"] : ["Search", "Table"];
  document.querySelector(".md-search").setAttribute("aria-label", searchLabel);

  // Lists inside a navigation, and the copy button of each code block, are no landmarks.
  const plain = () => {
    for (const nested of document.querySelectorAll(".md-nav .md-nav, .md-code__nav")) {
      nested.setAttribute("role", "none");
      for (const name of ["aria-label", "aria-labelledby", "aria-expanded"]) nested.removeAttribute(name);
    }
  };
  plain();
  new MutationObserver(plain).observe(document.querySelector("article"), { childList: true, subtree: true });

  // What scrolls sideways can be reached by keyboard, also where the theme thinks of touch alone.
  const reachable = (part) => {
    if (!part.hasAttribute("tabindex")) part.setAttribute("tabindex", "0");
  };
  for (const code of document.querySelectorAll("pre > code")) {
    reachable(code);
    new MutationObserver(() => reachable(code)).observe(code, { attributeFilter: ["tabindex"] });
  }
  document$.subscribe(() => {
    for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) {
      reachable(table);
      table.setAttribute("role", "group");
      table.setAttribute("aria-label", tableLabel);
    }
  });
})();
