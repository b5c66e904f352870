// What an operator looks at first: how jobs fare, what it costs, what needs a hand.

import { Dotted, Instant, ProblemNote, Status, UNFINISHED, counted, duration, html, money, useEffect, useRef, useState } from "../shared/view.js";
import { useAct, useRead } from "./load.js";
import { Card, Confirm, View } from "./parts.js";
import { Bars, everyDay } from "./plot.js";
import { to } from "./route.js";

const REFRESH_MS = 10_000;
const HOURS = 24;
const ENDS = [
  ["completed", "green"],
  ["failed", "red"],
  ["cancelled", "secondary"],
  ["not final yet", "azure"],
];

const REASONS = {
  operator: "An operator paused it.",
  retry_after: "RunComfy asked to wait.",
  upstream_unavailable: "RunComfy does not answer, or fails.",
  token_refused: "RunComfy refuses the token.",
  no_balance: "RunComfy says that the balance is used up.",
};

export function Overview({ api }) {
  const overview = useRead(api, `/v1/admin/overview?hours=${HOURS}`, { every: REFRESH_MS });
  const usage = useRead(api, "/v1/admin/usage?group_by=day", { every: 6 * REFRESH_MS });
  const risky = useRead(api, "/v1/admin/outputs?at_risk=true&limit=20", { every: 6 * REFRESH_MS });
  return html`<${View} title="Overview" tools=${overview.data && html`<span class="small">as of <${Instant} at=${overview.data.at} /></span>`}>
    <${ProblemNote} problem=${overview.problem || usage.problem || risky.problem} />
    <${Tiles} overview=${overview.data} usage=${usage.data} />
    <div class="panels">
      <div class="stack">
        <${Card} title=${`Jobs accepted in the last ${HOURS} hours, by how they ended`}><${Hours} overview=${overview.data} /></${Card}>
        <${Card} title="How long a job's end at RunComfy went unseen"><${Unseen} overview=${overview.data} /></${Card}>
        <${Card} title="Spend this month, by day (UTC)"><${Days} usage=${usage.data} /></${Card}>
      </div>
      <div class="stack">
        <${Traffic} api=${api} />
        <${AtRisk} outputs=${risky.data} />
        <${Invariants} api=${api} />
      </div>
    </div>
  </${View}>`;
}

function Tiles({ overview, usage }) {
  const ended = overview && overview.hours.reduce((sum, hour) => sum + hour.completed + hour.failed, 0);
  const failed = overview && overview.hours.reduce((sum, hour) => sum + hour.failed, 0);
  const seen = overview && detection(overview);
  const [nothing, why] = overview ? ["–", `none ended in ${HOURS} h`] : ["…", ""];
  const today = new Date().toISOString().slice(0, 10);
  const days = usage ? usage.data : [];
  const spent = (rows) => rows.reduce((sum, row) => sum + Number(row.spend_usd), 0);
  const held = days.reduce((sum, row) => sum + Number(row.spend_usd_held), 0);
  return html`<div class="tiles">
    ${UNFINISHED.map((status) => {
      const count = overview?.unfinished[status] ?? 0;
      const stuck = status === "submit_unknown" && count > 0;
      return html`<a key=${status} class="card tile ${stuck ? "tile-warn" : ""}" href=${to("jobs", { status })}>
        <div class="tile-name"><${Status} status=${status} /></div>
        <div class="tile-value">${overview ? count.toLocaleString() : "…"}</div>
        <div class="tile-note">${stuck ? "need a decision" : "now"}</div>
      </a>`;
    })}
    <a class="card tile" href=${to("jobs", { status: "failed" })}>
      <div class="tile-name">Failure rate</div>
      <div class="tile-value">${ended ? `${((100 * failed) / ended).toFixed(1)} %` : nothing}</div>
      <div class="tile-note">${ended ? `${failed.toLocaleString()} of ${ended.toLocaleString()} ended` : why}</div>
    </a>
    <div class="card tile">
      <div class="tile-name">Detection delay</div>
      <div class="tile-value">${seen ? seconds(seen.mean) : nothing}</div>
      <div class="tile-note">${seen ? `on average, ${seconds(seen.most)} at most` : why}</div>
    </div>
    <a class="card tile" href=${to("usage")}>
      <div class="tile-name">Spend today</div>
      <div class="tile-value">${usage ? dollars(spent(days.filter((row) => row.day === today))) : "…"}</div>
      <div class="tile-note">${usage ? `${dollars(spent(days))} this month, ${dollars(held)} held` : ""}</div>
    </a>
  </div>`;
}

const dollars = (amount) => money(amount.toFixed(2));

function Hours({ overview }) {
  if (!overview) return html`<div class="plot" style=${{ height: "220px" }}></div>`;
  const of = (hour, name) => hour[name] ?? hour.accepted - hour.completed - hour.failed - hour.cancelled;
  const series = ENDS.map(([label, colour]) => ({ label, colour, values: overview.hours.map((hour) => of(hour, label)) }));
  const sums = series.map(({ label, values }) => `${values.reduce((sum, n) => sum + n, 0)} ${label}`);
  return html`<${Bars} labels=${hourNames(overview)} series=${series} summary=${`Jobs by hour: ${sums.join(", ")}`} />`;
}

function Unseen({ overview }) {
  if (!overview) return html`<div class="plot" style=${{ height: "150px" }}></div>`;
  const seen = detection(overview);
  if (!seen) return html`<p class="mb-0">No job ended at RunComfy in this time.</p>`;
  const of = (name) => overview.hours.map((hour) => hour.detection_seconds?.[name] ?? null);
  const series = [
    { label: "on average", colour: "azure", values: of("mean") },
    { label: "longest", colour: "orange", values: of("most") },
  ];
  return html`<${Bars} labels=${hourNames(overview)} series=${series} height=${150} stacked=${false} format=${seconds}
    summary=${`Detection delay by hour, ${seconds(seen.most)} at most`} />`;
}

/** What the hours say together, each weighed by how many of its jobs ended. */
function detection(overview) {
  const hours = overview.hours.filter((hour) => hour.detection_seconds);
  if (!hours.length) return null;
  const ended = (hour) => Math.max(1, hour.completed + hour.failed);
  const jobs = hours.reduce((sum, hour) => sum + ended(hour), 0);
  const waited = hours.reduce((sum, hour) => sum + ended(hour) * hour.detection_seconds.mean, 0);
  return { mean: waited / jobs, most: Math.max(...hours.map((hour) => hour.detection_seconds.most)) };
}

const seconds = (value) => (value < 60 ? `${Number(value.toFixed(1))} s` : duration(value));

const hourNames = (overview) => overview.hours.map(({ since }) => new Date(since).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));

function Days({ usage }) {
  if (!usage) return html`<div class="plot" style=${{ height: "180px" }}></div>`;
  const rows = everyDay(usage.data);
  const series = [
    { label: "charged", colour: "primary", values: rows.map((row) => Number(row.spend_usd)) },
    { label: "held", colour: "orange", values: rows.map((row) => Number(row.spend_usd_held)) },
  ];
  const sum = series[0].values.reduce((total, amount) => total + amount, 0);
  return html`<${Bars} labels=${rows.map((row) => row.day.slice(8))} series=${series} height=${180} format=${(value) => `$${Number(value.toFixed(2))}`}
    summary=${`Spend by day of the month, ${dollars(sum)} in all`} />`;
}

const PAUSE = "Pause sending";
const RESUME = "Resume sending";

/** Whether jobs are sent and followed; if not, why, and the switch. */
function Traffic({ api }) {
  const dispatch = useRead(api, "/v1/admin/dispatch", { every: REFRESH_MS });
  const [asked, setAsked] = useState(null); // stays as it was, whatever others do in the meantime
  const state = dispatch.data;
  const switches = useRef(null);
  const acted = useRef(false);
  const put = async () => {
    await api.put("/v1/admin/dispatch", { paused: asked === PAUSE });
    acted.current = true;
    dispatch.reload();
  };
  // The button that was pressed has given way to another one, and would take the focus along.
  useEffect(() => {
    if (acted.current && document.activeElement === document.body) switches.current.querySelector("button").focus();
    acted.current = false;
  }, [state]);
  const isOurs = state?.reason === "operator"; // what paused by itself resumes by itself, unless somebody pauses it
  const tools = state && html`<div class="btn-list flex-nowrap" ref=${switches}>
    ${!isOurs && html`<button class="btn btn-sm" aria-label=${PAUSE} onClick=${() => setAsked(PAUSE)}>Pause</button>`}
    ${state.paused && html`<button class="btn btn-sm btn-primary" aria-label=${RESUME} onClick=${() => setAsked(RESUME)}>Resume</button>`}
  </div>`;
  return html`<${Card} title="Traffic to RunComfy" tools=${tools}>
    <${ProblemNote} problem=${dispatch.problem} />
    ${state && lanes(state).map(([name, lane]) => html`<${Lane} key=${name} name=${name} lane=${lane} />`)}
    ${asked && html`<${Confirm} title=${`${asked}?`} verb=${asked} act=${put} onClose=${() => setAsked(null)}>
      <p>${asked === PAUSE
        ? "No job is sent until it is resumed. Jobs are accepted and wait; those already sent are followed to their end."
        : "Waiting jobs are sent again, and what closed by itself is tried at once. A wait that RunComfy asked for still holds."}</p>
    </${Confirm}>`}
  </${Card}>`;
}

/** The gateway's own lanes, and those of its accounts that are closed; where it has one account they are the same. */
function lanes({ accounts, ...state }) {
  const own = accounts.length < 2 ? [] : accounts.flatMap((account) => [
    ...(account.drains ? [] : [[`Sending with ${account.name}`, account]]),
    [`Following with ${account.name}`, account.polling],
  ]);
  return [["Sending", state], ["Following", state.polling], ...own.filter(([, lane]) => lane.paused)];
}

function Lane({ name, lane }) {
  return html`<div class="d-flex gap-2 mb-1">
    <${Dotted} colour=${lane.paused ? "orange" : "green"}>${name}: ${lane.paused ? "paused" : "on"}</${Dotted}>
    ${lane.paused && html`<span class="small">${REASONS[lane.reason] || lane.reason}
      ${lane.since && html` Since <${Instant} at=${lane.since} />.`}
      ${lane.until && html` Tried again <${Instant} at=${lane.until} />.`}</span>`}
  </div>`;
}

function AtRisk({ outputs }) {
  const rows = outputs ? outputs.data : [];
  return html`<${Card} title="Outputs at risk" flush=${rows.length > 0}>
    ${rows.length > 0
      ? html`<div class="list-group list-group-flush">${rows.map((output) => html`<a class="list-group-item list-group-item-action py-2" key=${`${output.job}/${output.n}`}
          href=${to("jobs", { job: output.job })}>
          <div class="mono">${output.job}/${output.n}</div>
          <div class="small">made <${Instant} at=${output.created_at} />, ${counted(output.attempts, "attempt")} to copy it</div>
          ${output.reason && html`<div class="small">${output.reason}</div>`}
        </a>`)}</div>`
      : html`<span>${outputs ? "None: every output is copied, or still well within RunComfy's keeping." : "…"}</span>`}
    ${outputs?.next_cursor && html`<div class="p-2 small text-center">and more</div>`}
  </${Card}>`;
}

function Invariants({ api }) {
  const [found, setFound] = useState(null);
  const [check, busy, problem] = useAct(async () => setFound(await api.get("/v1/admin/invariants")));
  useEffect(() => {
    check();
  }, []);
  return html`<${Card} title="Invariants" tools=${html`<button class="btn btn-sm" onClick=${() => check()} disabled=${busy}>${busy ? "Checking" : "Check again"}</button>`}>
    <${ProblemNote} problem=${problem} />
    ${found?.ok && html`<${Dotted} colour="green">everything adds up</${Dotted}>
      <div class="small mt-1">Ledger against accounts, holds against jobs, events against states.</div>`}
    ${found && !found.ok && html`<div role="alert" class="bad">${found.violations.length} do not hold</div>
      <ul class="small mb-0">${found.violations.slice(0, 20).map((each) => html`<li key=${each.rule + each.subject}>${each.rule}: <span class="mono">${each.subject}</span></li>`)}</ul>`}
  </${Card}>`;
}
