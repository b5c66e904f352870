// One job in depth: what happened to it, what it cost, and what can be done if it is stuck.

import { Downloads, Outputs } from "../shared/outputs.js";
import { Copy, Instant, ProblemNote, Status, html, isFinal, money, spaced, useEffect, useState } from "../shared/view.js";
import { ActDialog, actsOn } from "./acts.js";
import { useRead } from "./load.js";
import { Dialog, Facts, Json } from "./parts.js";
import { to } from "./route.js";

const REFRESH_MS = 2000;

export function JobDrawer({ api, id, onClose, onChanged }) {
  const [every, setEvery] = useState(REFRESH_MS);
  const [asked, setAsked] = useState(null); // the act that awaits confirmation
  const [done, setDone] = useState(null);
  const read = useRead(api, `/v1/admin/jobs/${encodeURIComponent(id)}`, { every });
  const job = read.data;
  if (job && isFinal(job) && every) setEvery(undefined);
  const acted = ({ hold, job: after }, act) => {
    read.reload();
    setDone({ says: `${act.done} ${HOLDS[hold] || `The hold: ${hold}.`}`, isEnd: isFinal(after) });
    onChanged();
  };
  // What was done is told until the job has come to its end, or needs somebody again.
  const stands = job && done?.isEnd === isFinal(job) && job.status !== "submit_unknown";
  // The button that was pressed is gone with the state that it was for, and would take the focus along.
  useEffect(() => {
    if (document.activeElement === document.body) document.querySelector(".sheet-body").focus();
  }, [job?.status]);
  const acts = job ? actsOn(job) : [];
  const footer = acts.length > 0 && acts.map((act) => html`<button key=${act.name} type="button" class="btn btn-sm ${act.danger ? "btn-outline-danger" : ""}" onClick=${() => setAsked(act)}>${act.verb}</button>`);
  return html`<${Dialog} drawer title="Job" onClose=${onClose} footer=${footer} head=${job && html`<${Status} status=${job.status} />`}>
    <${ProblemNote} problem=${read.problem} />
    ${stands && html`<div class="alert alert-success" role="status">${done.says}</div>`}
    ${job && html`<${Detail} job=${job} />`}
    ${asked && html`<${ActDialog} api=${api} job=${job} act=${asked} onDone=${acted} onClose=${() => setAsked(null)} />`}
  </${Dialog}>`;
}

const HOLDS = {
  held: "The hold stays until the job ends.",
  settled: "The hold is charged.",
  released: "The hold is freed.",
};

function Detail({ job }) {
  return html`
    <div class="d-flex gap-2 align-items-center mb-3"><span class="mono flex-fill">${job.id}</span><${Copy} text=${job.id} label="Copy id" /></div>
    ${job.error && html`<div class="alert alert-danger">${job.error.message}<div class="small">${job.error.code}</div></div>`}
    <${Facts} facts=${[
      ["User", html`<a href=${to("users", { user: job.user })}>${job.user}</a>`],
      ["Model", job.model],
      ["Cost", html`${money(job.cost.amount_usd)}${job.cost.output_seconds !== null ? ` for ${job.cost.output_seconds} s` : ""}, ${job.cost.state}`],
      ["RunComfy's cost", job.reported_cost_usd && money(job.reported_cost_usd)],
      ["Created", html`<${Instant} at=${job.created_at} />`],
      ["Submitted", job.submitted_at && html`<${Instant} at=${job.submitted_at} />`],
      ["Started", job.started_at && html`<${Instant} at=${job.started_at} />`],
      ["Finished", job.finished_at && html`<${Instant} at=${job.finished_at} />${job.late ? " (late)" : ""}`],
      ["Attempts", job.attempts],
      ["RunComfy's request", job.upstream_request_id && html`<span class="mono">${job.upstream_request_id}</span>`],
      ["Looked at next", job.due_at && html`<${Instant} at=${job.due_at} />`],
      ["Leased until", job.lease_expires_at && html`<${Instant} at=${job.lease_expires_at} />`],
      ["Place in queue", job.queue_position ?? job.pending_position],
    ]} />
    ${job.urls.outputs.length > 0 && html`<h3>Output</h3><${Outputs} job=${job} /><div class="btn-list mt-2"><${Downloads} job=${job} size="btn-sm" /></div>`}
    <h3>Events</h3>
    <ol class="timeline-rows" aria-label="Events">
      ${job.events.map((event) => html`<li key=${event.seq}>
        <span>${event.seq}</span><${Instant} at=${event.at} /><strong class="fw-medium">${spaced(event.type)}</strong>
        ${event.data && html`<span class="wide mono">${JSON.stringify(event.data)}</span>`}
      </li>`)}
    </ol>
    <h3>Ledger</h3>
    ${job.ledger.length > 0
      ? html`<table class="table table-dense" aria-label="Ledger">
          <thead><tr><th scope="col">Entry</th><th scope="col">At</th><th scope="col" class="num">Amount</th><th scope="col" class="num">Output</th></tr></thead>
          <tbody>${job.ledger.map((entry) => html`<tr key=${entry.kind + entry.at}>
            <td>${spaced(entry.kind)}</td><td><${Instant} at=${entry.at} /></td>
            <td class="num">${money(entry.amount_usd)}</td><td class="num">${entry.output_seconds === null ? "–" : `${entry.output_seconds} s`}</td>
          </tr>`)}</tbody></table>`
      : html`<p>No entry.</p>`}
    <h3>Input</h3><${Json} value=${job.input} />
    ${Object.keys(job.metadata).length > 0 && html`<h3>Metadata</h3><${Json} value=${job.metadata} />`}
    <p class="small mt-3 mb-0">Schema <span class="mono">${job.schema_hash}</span></p>`;
}
