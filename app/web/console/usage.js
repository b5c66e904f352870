// Usage by day, user, model or key: plots, a table, and the same as a file.

import { ProblemNote, html, money, spaced } from "../shared/view.js";
import { useAct, useRead } from "./load.js";
import { Card, Filter, View } from "./parts.js";
import { Bars, everyDay } from "./plot.js";
import { queryOf, replace, to } from "./route.js";

const GROUPS = [["user", "User"], ["model", "Model"], ["key", "Key"], ["day", "Day"]];
const MEASURES = [["spend_usd", "Spend"], ["jobs", "Jobs"], ["output_seconds", "Output seconds"]];
const MOST_BARS = 15;
const MOST_ROWS = 500;

export function Usage({ api, query }) {
  const group = GROUPS.some(([name]) => name === query.by) ? query.by : "user";
  const measure = MEASURES.some(([name]) => name === query.of) ? query.of : "spend_usd";
  const pathBy = (name) => `/v1/admin/usage?${queryOf({ from: query.from, to: query.to, user: query.user, group_by: name })}`;
  const days = useRead(api, pathBy("day"));
  const others = useRead(api, group === "day" ? null : pathBy(group));
  const groups = group === "day" ? days : others;
  const [download, busy, failed] = useAct(() => save(api, pathBy(group), `usage-by-${group}.csv`));
  const change = (name) => (event) => replace("usage", { ...query, [name]: event.target.value.trim() });
  const format = measure === "spend_usd" ? (value) => `$${Number(Number(value).toFixed(2))}` : (value) => Number(value).toLocaleString();
  // In a chosen span, days without any use are left out: it may cover years.
  const byDay = days.data && (query.from || query.to || !days.data.data.length ? days.data.data : everyDay(days.data.data));
  const [, word] = GROUPS.find(([name]) => name === group);
  const [, measured] = MEASURES.find(([name]) => name === measure);
  const rows = [...(groups.data?.data || [])].sort((a, b) => (group === "day" ? b.day.localeCompare(a.day) : Number(b[measure]) - Number(a[measure])));
  const tools = html`<button class="btn btn-sm" disabled=${busy} onClick=${() => download()}>Download CSV</button>`;
  return html`<${View} title="Usage" tools=${tools}>
    <div class="filters" role="search" aria-label="Usage of">
      <${Filter} id="usage-by" label="By" choices=${GROUPS} value=${group} onChange=${change("by")} />
      <${Filter} id="usage-of" label="Plot" choices=${MEASURES} value=${measure} onChange=${change("of")} />
      <${Filter} id="usage-from" label="From" type="date" value=${query.from} onChange=${change("from")} />
      <${Filter} id="usage-to" label="To (not included)" type="date" value=${query.to} onChange=${change("to")} />
      <${Filter} id="usage-user" label="User" placeholder="all" value=${query.user} onChange=${change("user")} />
    </div>
    <${ProblemNote} problem=${days.problem || groups.problem || failed} />
    <div class="stack">
      <${Card} title=${`${measured} by day (UTC${query.from || query.to ? "" : ", this month"})`}>
        <${Plot} rows=${byDay} name="day" measure=${measure} format=${format} />
      </${Card}>
      ${group !== "day" && html`<${Card} title=${`${measured} by ${word.toLowerCase()}${rows.length > MOST_BARS ? `: the ${MOST_BARS} with most` : ""}`}>
        <${Plot} rows=${groups.data && rows.slice(0, MOST_BARS)} name=${group} measure=${measure} format=${format} flat />
      </${Card}>`}
      ${rows.length > 0 && html`<div class="card"><${Sums} rows=${rows} group=${group} word=${word} /></div>`}
    </div>
  </${View}>`;
}

function Plot({ rows, name, measure, format, flat }) {
  if (!rows) return html`<div class="plot" style=${{ height: "200px" }}></div>`;
  if (!rows.length) return html`<p class="mb-0">Nothing was used in this time.</p>`;
  const series = [{ label: "used", colour: "primary", values: rows.map((row) => Number(row[measure])) }];
  if (measure !== "jobs") series.push({ label: "held", colour: "orange", values: rows.map((row) => Number(row[`${measure}_held`])) });
  const labels = rows.map((row) => (flat ? short(row[name]) : row[name]));
  const sum = series[0].values.reduce((total, value) => total + value, 0);
  return html`<${Bars} labels=${labels} series=${series} format=${format} flat=${flat} height=${flat ? 50 + 26 * rows.length : 200}
    summary=${`${spaced(measure)} by ${name}, ${format(sum)} in all`} />`;
}

const short = (text) => (text.length > 28 ? `…${text.slice(-27)}` : text);

function Sums({ rows, group, word }) {
  return html`<div class="table-responsive" tabindex="0" role="group" aria-label=${`Usage by ${group}`}><table class="table card-table table-dense" aria-label="Usage">
    <thead><tr><th scope="col">${word}</th><th scope="col" class="num">Jobs</th><th scope="col" class="num">Charged</th><th scope="col" class="num">Freed</th>
      <th scope="col" class="num">Output s</th><th scope="col" class="num">Spend</th><th scope="col" class="num">Held</th></tr></thead>
    <tbody>${rows.slice(0, MOST_ROWS).map((row) => html`<tr key=${row[group]}>
      <td class="long">${group === "user" ? html`<a href=${to("users", { user: row.user })}>${row.user}</a>` : row[group]}</td>
      <td class="num">${row.jobs.toLocaleString()}</td><td class="num">${row.jobs_settled.toLocaleString()}</td><td class="num">${row.jobs_released.toLocaleString()}</td>
      <td class="num">${row.output_seconds.toLocaleString()}</td><td class="num">${money(row.spend_usd)}</td><td class="num">${money(row.spend_usd_held)}</td>
    </tr>`)}</tbody></table>
    ${rows.length > MOST_ROWS && html`<div class="p-2 small text-center">${rows.length - MOST_ROWS} more are in the file.</div>`}
  </div>`;
}

/** The credential goes in a header, so the file is fetched and handed over as one of this tab's. */
async function save(api, path, name) {
  const answer = await api.fetch("GET", path, { headers: { Accept: "text/csv" } });
  const url = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
