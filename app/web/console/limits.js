// Limits as operators write them: a number and a mode for each name, empty for none.

import { html, limitAmount, limitName } from "../shared/view.js";
import { Errors, Options } from "./parts.js";

const NAMES = [
  "submits_per_minute",
  "jobs_per_day",
  "jobs_per_month",
  "output_seconds_per_day",
  "output_seconds_per_month",
  "spend_usd_per_day",
  "spend_usd_per_month",
  "concurrent_jobs",
  "pending_jobs",
];

const isMoney = (name) => name.includes("usd");

/** Edits `{name: {limit, mode}}`, whose numbers are text until they are sent; one that was emptied keeps its mode. */
export function LimitsEditor({ legend, hint, value, onChange, errorsAt }) {
  const set = (name, part) => onChange({ ...value, [name]: { mode: "enforce", limit: "", ...value[name], ...part } });
  return html`<fieldset class="mb-3">
    <legend class="form-label mb-1">${legend}</legend>
    ${hint && html`<div class="form-hint mb-2">${hint}</div>`}
    <table class="limits-table w-100">
      <thead class="visually-hidden"><tr><th scope="col">Limit</th><th scope="col">Amount</th><th scope="col">Mode</th></tr></thead>
      <tbody>${NAMES.map((name) => {
        const words = `${limitName({ name })}${isMoney(name) ? ", $" : ""}`;
        const errors = errorsAt(`/limits/${name}`);
        const id = `limit-${name}`;
        return html`<tr key=${name}>
          <th scope="row" class="fw-normal"><label for=${id}>${words}</label></th>
          <td><input id=${id} class="form-control form-control-sm" inputmode="decimal" autocomplete="off" placeholder="none" value=${value[name]?.limit ?? ""}
              aria-invalid=${errors.length > 0} aria-describedby=${errors.length ? `${id}-errors` : undefined} onInput=${(event) => set(name, { limit: event.target.value })} />
            <${Errors} id=${`${id}-errors`} errors=${errors} /></td>
          <td><select class="form-select form-select-sm" aria-label=${`${words}: mode`} disabled=${isNone(value[name])} onChange=${(event) => set(name, { mode: event.target.value })}>
            <${Options} choices=${["enforce", "shadow"]} value=${value[name]?.mode || "enforce"} />
          </select></td>
        </tr>`;
      })}</tbody>
    </table>
    <div class="form-hint mt-1">Enforced limits refuse; shadow limits let everything through and show what they would have refused.</div>
  </fieldset>`;
}

const isNone = (limit) => !limit || String(limit.limit).trim() === "";

/** What to send: the limits that were edited as numbers, and null for those that were taken away. */
export function limitsBody(value, before = {}) {
  const removed = Object.keys(before).filter((name) => isNone(value[name]));
  const edited = Object.entries(value).filter(([name, limit]) => !isNone(limit) && limit !== before[name]);
  return {
    ...Object.fromEntries(removed.map((name) => [name, null])),
    ...Object.fromEntries(edited.map(([name, { limit, mode }]) => [name, { limit: written(name, limit), mode }])),
  };
}

/** Money stays text, so that no cent is lost; what is no number is sent as it is, to be refused in words. */
function written(name, limit) {
  const text = String(limit).trim();
  return isMoney(name) || Number.isNaN(Number(text)) ? text : Number(text);
}

/** Limits in a line, for tables. */
export function LimitsLine({ limits }) {
  const entries = Object.entries(limits);
  if (!entries.length) return html`<span>–</span>`;
  return entries.map(([name, { limit, mode }]) => html`<div key=${name}>${limitName({ name })}: ${limitAmount({ name }, limit)}${mode === "shadow" ? " (shadow)" : ""}</div>`);
}
