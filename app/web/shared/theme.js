// Runs before anything is painted, so that no page flashes in the wrong colours.
document.documentElement.dataset.bsTheme =
  localStorage.getItem("theme") ||
  (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
