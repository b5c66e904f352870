// Plots by Chart.js, which is only loaded by views that have one, in the colours of the theme.

import { html, useEffect, useRef, useState } from "../shared/view.js";

let loading;

async function library() {
  loading ||= import("../vendor/chart.umd.min.js");
  await loading;
  return globalThis.Chart;
}

function useTheme() {
  const root = document.documentElement;
  const [theme, setTheme] = useState(root.dataset.bsTheme);
  useEffect(() => {
    const watcher = new MutationObserver(() => setTheme(root.dataset.bsTheme));
    watcher.observe(root, { attributeFilter: ["data-bs-theme"] });
    return () => watcher.disconnect();
  }, []);
  return theme;
}

/** A colour of the theme as a canvas understands it: some are made of others by the stylesheet. */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--tblr-${name})`;
  document.body.append(probe);
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  pen.fillStyle = getComputedStyle(probe).color;
  probe.remove();
  pen.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
  return `rgba(${red}, ${green}, ${blue}, ${alpha / 255})`;
}

/**
 * Bars of one or several series (`{label, values, colour}`), stacked or side by side. `summary` says
 * in words what it shows; `format` renders a value; `flat` makes the bars horizontal.
 */
export function Bars({ labels, series, summary, format = String, flat = false, stacked = true, height = 220 }) {
  const canvas = useRef(null);
  const chart = useRef(null);
  const theme = useTheme();
  const shown = JSON.stringify([labels, series, flat, theme]);
  useEffect(() => {
    let gone = false;
    library().then((Chart) => {
      if (gone) return;
      const config = configOf({ labels, series, format, flat, stacked });
      if (chart.current && chart.current.options.indexAxis === config.options.indexAxis) {
        chart.current.data = config.data;
        chart.current.options = config.options;
        chart.current.update("none");
      } else {
        chart.current?.destroy();
        chart.current = new Chart(canvas.current, config);
      }
    });
    return () => {
      gone = true;
    };
  }, [shown]);
  useEffect(() => () => chart.current?.destroy(), []);
  return html`<div class="plot" style=${{ height: `${height}px` }}>
    <canvas ref=${canvas} role="img" aria-label=${summary}></canvas>
  </div>`;
}

/** The days of the month so far, those on which nothing was used too. */
export function everyDay(rows) {
  const today = new Date().toISOString().slice(0, 10);
  const known = new Map(rows.map((row) => [row.day, row]));
  const none = { jobs: 0, spend_usd: "0", spend_usd_held: "0", output_seconds: 0, output_seconds_held: 0 };
  return Array.from({ length: Number(today.slice(8)) }, (_, n) => {
    const day = `${today.slice(0, 8)}${String(n + 1).padStart(2, "0")}`;
    return known.get(day) || { ...none, day };
  });
}

function configOf({ labels, series, format, flat, stacked }) {
  const grid = { color: colour("border-color") };
  const ticks = { color: colour("body-color"), maxRotation: 0, font: { size: 11 } };
  const amounts = { stacked, beginAtZero: true, grid, border: { display: false }, ticks: { ...ticks, maxTicksLimit: 5, callback: (value) => format(value) } };
  const names = { stacked, grid: { display: false }, ticks: { ...ticks, autoSkip: !flat, autoSkipPadding: 12 } };
  const axis = flat ? "x" : "y";
  return {
    type: "bar",
    data: {
      labels,
      datasets: series.map((each) => ({
        label: each.label,
        data: each.values,
        backgroundColor: colour(each.colour),
        maxBarThickness: flat ? 18 : 28,
        borderRadius: 2,
      })),
    },
    options: {
      indexAxis: flat ? "y" : "x",
      animation: false,
      maintainAspectRatio: false,
      scales: flat ? { x: amounts, y: names } : { x: names, y: amounts },
      interaction: { mode: "index", intersect: false, axis: flat ? "y" : "x" },
      plugins: {
        legend: {
          display: series.length > 1,
          align: "end",
          labels: { color: ticks.color, boxWidth: 10, boxHeight: 10, font: { size: 11 } },
        },
        tooltip: { callbacks: { label: (item) => ` ${item.dataset.label}: ${format(item.parsed[axis])}` } },
      },
    },
  };
}
