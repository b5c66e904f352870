// What shadow limits would have refused, day by day: to be read before one is enforced.

import { Instant, counted, html, limitName } from "../shared/view.js";
import { usePages } from "./load.js";
import { JobLink, PagedTable, Refresh, View } from "./parts.js";

const COLUMNS = [["Day (UTC)", "tight"], ["User", "tight"], ["Limit", "tight"], ["Of", "long"], ["Would have refused", "tight"], ["Last", "tight"], ["Job", "tight"]];

export function ShadowFindings({ api }) {
  const pages = usePages(api, "/v1/admin/shadow-findings?limit=100");
  return html`<${View} title="Shadow findings" tools=${html`<${Refresh} pages=${pages} />`}>
    <${PagedTable} label="Shadow findings" pages=${pages} columns=${COLUMNS} empty="No shadow limit would have refused a job." row=${(finding) => [
      finding.day,
      finding.user,
      limitName({ name: finding.limit }),
      html`<span class="mono">${finding.account}</span>`,
      counted(finding.count, "job"),
      html`<${Instant} at=${finding.last_at} />`,
      html`<${JobLink} id=${finding.last_job} />`,
    ]} />
  </${View}>`;
}
