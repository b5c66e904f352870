// Webhook deliveries: what was sent where, how each attempt went, and sending again.

import { Dotted, Instant, ProblemNote, html, useState } from "../shared/view.js";
import { useAct, usePages } from "./load.js";
import { Dialog, Facts, FilterInput, JobLink, Options, PagedTable, Refresh, View } from "./parts.js";
import { queryOf, replace, to } from "./route.js";

const COLUMNS = [["State", "tight"], ["Event", "tight"], ["User", "tight"], ["To", "tight"], ["Job", "tight"], ["Attempts", "num"], ["Next", "tight"], ["Created", "tight"], ["", "acts"]];
const COLOURS = { pending: "azure", delivered: "green", failed: "red" };

export function Deliveries({ api, query }) {
  const pages = usePages(api, `/v1/admin/deliveries?${queryOf({ limit: 100, state: query.state, user: query.user })}`);
  const [shown, setShown] = useState(null);
  const change = (name) => (event) => replace("deliveries", { ...query, [name]: event.target.value.trim() });
  const tools = html`
    <select class="form-select form-select-sm w-auto" aria-label="State" onChange=${change("state")}>
      <${Options} choices=${[["", "all states"], ...Object.keys(COLOURS)]} value=${query.state} />
    </select>
    <${FilterInput} class="w-auto" placeholder="all users" aria-label="User" value=${query.user} onChange=${change("user")} />
    <${Refresh} pages=${pages} />`;
  return html`<${View} title="Webhook deliveries" tools=${tools}>
    <${PagedTable} label="Webhook deliveries" pages=${pages} columns=${COLUMNS} empty=${query.state || query.user ? "No delivery matches." : "No delivery yet. One is made when a job moves whose user has a webhook endpoint, or that names a webhook_url."} row=${(each) => [
      html`<${State} state=${each.state} />`,
      each.type,
      each.user,
      each.host || "–",
      each.job ? html`<${JobLink} id=${each.job} />` : "test",
      each.attempts_made,
      html`<${Instant} at=${each.next_attempt_at} />`,
      html`<${Instant} at=${each.created_at} />`,
      html`<button class="btn btn-sm" aria-label=${`Details of ${each.id}`} onClick=${() => setShown(each)}>Details</button>`,
    ]} />
    ${shown && html`<${DeliveryDrawer} api=${api} delivery=${shown} onClose=${() => setShown(null)} onChanged=${() => pages.reload({ quiet: true })} />`}
  </${View}>`;
}

const State = ({ state }) => html`<${Dotted} colour=${COLOURS[state]}>${state}</${Dotted}>`;

function DeliveryDrawer({ api, delivery: given, onClose, onChanged }) {
  const [delivery, setDelivery] = useState(given);
  const [sent, setSent] = useState(false);
  const [again, busy, problem] = useAct(async () => {
    setDelivery(await api.post(`/v1/admin/deliveries/${given.id}/redeliver`));
    setSent(true);
    onChanged();
  });
  const footer = html`<button class="btn btn-sm btn-primary" disabled=${busy} onClick=${() => again()}>Send again</button>`;
  return html`<${Dialog} drawer title="Webhook delivery" onClose=${onClose} footer=${footer} head=${html`<${State} state=${delivery.state} />`}>
    <${ProblemNote} problem=${problem} />
    ${sent && html`<div class="alert alert-success" role="status">It is being sent again, newly signed, with the job as it is now.</div>`}
    <${Facts} facts=${[
      ["Message", html`<span class="mono">${delivery.id}</span>`],
      ["Event", delivery.type],
      ["User", delivery.user],
      ["To", delivery.host],
      ["Endpoint", delivery.endpoint || "named by the job"],
      ["Job", delivery.job && html`<a class="mono" href=${to("jobs", { job: delivery.job })}>${delivery.job}</a>`],
      ["Next attempt", delivery.next_attempt_at && html`<${Instant} at=${delivery.next_attempt_at} />`],
    ]} />
    <h3>Attempts: ${delivery.attempts_made}</h3>
    ${delivery.attempts.length > 0 && html`<table class="table table-dense" aria-label="Attempts">
      <thead><tr><th scope="col">At</th><th scope="col">Outcome</th><th scope="col" class="num">Took</th><th scope="col">Answer</th></tr></thead>
      <tbody>${delivery.attempts.map((attempt) => html`<tr key=${attempt.at}>
        <td class="tight"><${Instant} at=${attempt.at} /></td><td><span class=${attempt.error ? "bad" : ""}>${attempt.status_code ?? attempt.error}</span></td>
        <td class="num">${attempt.duration_ms} ms</td><td class="long">${attempt.body || "–"}</td>
      </tr>`)}</tbody></table>`}
  </${Dialog}>`;
}
