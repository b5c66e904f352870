// What operators did: who, what, when, and what it changed.

import { Instant, html } from "../shared/view.js";
import { usePages } from "./load.js";
import { PagedTable, Refresh, View } from "./parts.js";

const COLUMNS = [["When", "tight"], ["Who", "tight"], ["What", "tight"], ["Of", "long"], ["Changed", "long"]];

export function AuditLog({ api }) {
  const pages = usePages(api, "/v1/admin/audit?limit=100");
  return html`<${View} title="Audit log" tools=${html`<${Refresh} pages=${pages} />`}>
    <${PagedTable} label="Audit log" pages=${pages} columns=${COLUMNS} empty="Nothing was done yet." row=${(entry) => [
      html`<${Instant} at=${entry.at} />`,
      entry.actor,
      entry.action,
      html`<span class="mono">${entry.target}</span>`,
      html`<${Changes} before=${entry.before || {}} after=${entry.after || {}} />`,
    ]} />
  </${View}>`;
}

/** The fields that differ, each as it was and as it became; what was empty from the start says nothing. */
function Changes({ before, after }) {
  const [was, is] = [flat(before), flat(after)];
  const differing = [...new Set([...Object.keys(was), ...Object.keys(is)])].filter((name) => was[name] !== is[name]);
  return differing.map((name) => html`<div key=${name}>${name}:
    ${name in was && html` <del>${was[name]}</del>`}${name in is && html` <span>${is[name]}</span>`}</div>`);
}

/** Fields of fields by their path, as text; those that hold nothing are left out. */
function flat(fields, path = "") {
  return Object.entries(fields).reduce((all, [name, value]) => {
    if (value === null || value === "") return all;
    if (typeof value === "object" && !Array.isArray(value)) return { ...all, ...flat(value, `${path}${name}.`) };
    return { ...all, [path + name]: Array.isArray(value) ? value.map((each) => (typeof each === "object" ? JSON.stringify(each) : each)).join(", ") : String(value) };
  }, {});
}
