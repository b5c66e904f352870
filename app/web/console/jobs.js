// All users' jobs: filters, and a list that stays quick however long it is.

import { Instant, STATUSES, Status, duration, html, money, spaced, useEffect, useRef, useState } from "../shared/view.js";
import { JobDrawer } from "./job.js";
import { usePages, useRead } from "./load.js";
import { Filter, ListEnd, Refresh, View, instant } from "./parts.js";
import { close, queryOf, replace, to } from "./route.js";

const PAGE = 100;
const ROW = 36; // px, as in the stylesheet
const MARGIN = 20; // rows drawn beyond those in view

export function Jobs({ api, query }) {
  const { job, ...filters } = query;
  const asked = queryOf({
    limit: PAGE,
    status: filters.status,
    model: filters.model,
    user: filters.user,
    created_after: instant(filters.after),
    created_before: instant(filters.before),
  });
  const pages = usePages(api, `/v1/admin/jobs?${asked}`);
  const empty = Object.keys(filters).length
    ? "No job matches."
    : html`No job yet. Make a <a href=${to("users")}>user</a> and a <a href=${to("keys")}>key</a>, and try it in the <a href=".">playground</a>.`;
  const change = (name, value) => replace("jobs", { ...filters, [name]: value });
  const tools = html`
    ${Object.keys(filters).length > 0 && html`<a class="btn btn-sm" href=${to("jobs")}>Clear filters</a>`}
    <${Refresh} pages=${pages} />`;
  return html`<${View} title="Jobs" tools=${tools}>
    <${Filters} api=${api} filters=${filters} onChange=${change} />
    <${JobTable} pages=${pages} filters=${filters} empty=${empty} />
    ${job && html`<${JobDrawer} key=${job} api=${api} id=${job} onClose=${() => close("jobs", filters)} onChanged=${() => pages.reload({ quiet: true })} />`}
  </${View}>`;
}

function Filters({ api, filters, onChange }) {
  const used = useRead(api, "/v1/admin/usage?group_by=model");
  const typed = (name) => (event) => onChange(name, event.target.value.trim());
  const statuses = [["", "all"], ...STATUSES.map((status) => [status, spaced(status)])];
  return html`<div class="filters" role="search" aria-label="Filter jobs">
    <${Filter} id="filter-status" label="Status" choices=${statuses} value=${filters.status} onChange=${typed("status")} />
    <${Filter} id="filter-user" label="User" placeholder="all" value=${filters.user} onChange=${typed("user")} />
    <${Filter} id="filter-model" label="Model" placeholder="all" list="used-models" value=${filters.model} onChange=${typed("model")} />
    <${Filter} id="filter-after" label="Created after" type="datetime-local" value=${filters.after} onChange=${typed("after")} />
    <${Filter} id="filter-before" label="Created before" type="datetime-local" value=${filters.before} onChange=${typed("before")} />
    <datalist id="used-models">${(used.data?.data || []).map(({ model }) => html`<option key=${model} value=${model}></option>`)}</datalist>
  </div>`;
}

/** Draws the rows in view alone: the others are as much room above and below. */
function JobTable({ pages, filters, empty }) {
  const { rows } = pages;
  const body = useRef(null);
  const [[first, last], setSpan] = useState([0, PAGE]);
  useEffect(() => {
    const measure = () => {
      if (!body.current) return;
      const above = -body.current.getBoundingClientRect().top;
      const start = Math.max(0, Math.floor(above / ROW) - MARGIN);
      const end = Math.ceil((above + innerHeight) / ROW) + MARGIN;
      setSpan((now) => (now[0] === start && now[1] === end ? now : [start, end]));
    };
    measure();
    addEventListener("scroll", measure, { passive: true });
    addEventListener("resize", measure);
    return () => {
      removeEventListener("scroll", measure);
      removeEventListener("resize", measure);
    };
  }, [rows.length]);
  const from = Math.min(first, Math.max(0, rows.length - 1));
  const shown = rows.slice(from, last);
  const gap = (count) => count > 0 && html`<tr class="gap" aria-hidden="true" style=${{ height: `${count * ROW}px` }}><td colspan="3"></td></tr>`;
  return html`<div class="card">
    ${rows.length > 0 && html`<table class="table table-dense jobs-table" aria-label="Jobs" aria-rowcount=${pages.cursor ? -1 : rows.length + 1}>
      <thead><tr>
        <th scope="col" class="c-status">Status</th><th scope="col" class="c-id">Job</th><th scope="col" class="c-user">User</th><th scope="col" class="c-model">Model</th>
        <th scope="col" class="c-cost num">Cost</th><th scope="col" class="c-took num">Took</th><th scope="col" class="c-when">Created</th>
      </tr></thead>
      <tbody ref=${body}>
        ${gap(from)}
        ${shown.map((job, n) => html`<${Row} key=${job.id} job=${job} index=${from + n + 2} filters=${filters} />`)}
        ${gap(rows.length - from - shown.length)}
      </tbody>
    </table>`}
    <${ListEnd} pages=${pages} empty=${empty} />
  </div>`;
}

function Row({ job, index, filters }) {
  const address = to("jobs", { ...filters, job: job.id });
  const open = (event) => !event.target.closest("a") && !String(getSelection()) && (location.hash = address);
  return html`<tr class="row-link" aria-rowindex=${index} onClick=${open}>
    <td class="c-status"><a class="text-reset text-decoration-none" href=${address} aria-label=${`${job.id}, ${spaced(job.status)}`}><${Status} status=${job.status} /></a></td>
    <td class="c-id mono" title=${job.id}>…${job.id.slice(-10)}</td>
    <td class="c-user" title=${job.user}>${job.user}</td>
    <td class="c-model" title=${job.model}>${job.model}</td>
    <td class="c-cost num">${costOf(job)}</td>
    <td class="c-took num">${job.finished_at ? duration((new Date(job.finished_at) - new Date(job.created_at)) / 1000) : "–"}</td>
    <td class="c-when"><${Instant} at=${job.created_at} /></td>
  </tr>`;
}

/** The amount of a hold that was released would look as if it had been charged, as only that of a late success may be. */
function costOf({ cost, late }) {
  if (cost.state === "released" && !late) return "not charged";
  return cost.amount_usd === null ? "–" : money(cost.amount_usd);
}
