// What shadow limits would have refused, day by day: to be read before one is enforced.

import { Instant, html } from "../shared/view.js";
import { usePages } from "./load.js";
import { PagedTable, View } from "./parts.js";
import { to } from "./route.js";

const COLUMNS = [["Day (UTC)", "tight"], ["User", "tight"], ["Limit", "tight"], ["Of", "long"], ["Would have refused", "tight"], ["Last", "tight"], ["Job", "tight"]];

export function ShadowFindings({ api }) {
  const pages = usePages(api, "/v1/admin/shadow-findings?limit=100");
  return html`<${View} title="Shadow findings" tools=${html`<button class="btn btn-sm" onClick=${() => pages.reload()}>Refresh</button>`}>
    <${PagedTable} label="Shadow findings" pages=${pages} columns=${COLUMNS} empty="No shadow limit would have refused a job." row=${(finding) => [
      finding.day,
      finding.user,
      finding.limit,
      html`<span class="mono">${finding.account}</span>`,
      `${finding.count.toLocaleString()} ${finding.count === 1 ? "job" : "jobs"}`,
      html`<${Instant} at=${finding.last_at} />`,
      html`<a class="mono" href=${to("jobs", { job: finding.last_job })} aria-label=${`Job ${finding.last_job}`}>…${finding.last_job.slice(-8)}</a>`,
    ]} />
  </${View}>`;
}
