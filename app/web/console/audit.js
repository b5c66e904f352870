// What operators did: who, what, when, and what it changed.

import { Instant, html } from "../shared/view.js";
import { usePages } from "./load.js";
import { PagedTable, View } from "./parts.js";

const COLUMNS = [["When", "tight"], ["Who", "tight"], ["What", "tight"], ["Of", "long"], ["Changed", "long"]];

export function AuditLog({ api }) {
  const pages = usePages(api, "/v1/admin/audit?limit=100");
  return html`<${View} title="Audit log" tools=${html`<button class="btn btn-sm" onClick=${() => pages.reload()}>Refresh</button>`}>
    <${PagedTable} label="Audit log" pages=${pages} columns=${COLUMNS} empty="Nothing was done yet." row=${(entry) => [
      html`<${Instant} at=${entry.at} />`,
      entry.actor,
      entry.action,
      html`<span class="mono">${entry.target}</span>`,
      html`<${Changes} before=${entry.before || {}} after=${entry.after || {}} />`,
    ]} />
  </${View}>`;
}

/** The fields that differ, each as it was and as it became. */
function Changes({ before, after }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const differing = names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  const text = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
  return differing.map((name) => html`<div key=${name}>${name}:
    ${before[name] !== undefined && html` <del>${text(before[name])}</del>`}${after[name] !== undefined && html` <span>${text(after[name])}</span>`}</div>`);
}
