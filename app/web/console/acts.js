// What an operator may do with a job in its state, and what each does to the hold.

import { html, money } from "../shared/view.js";
import { Confirm } from "./parts.js";

const FOLLOWED = ["in_queue", "in_progress"];
const UNKNOWN = ["submit_unknown"];
const STUCK = [...UNKNOWN, ...FOLLOWED];

const ACTS = [
  { name: "poll", verb: "Poll now", from: FOLLOWED, done: "A worker looks at it now.", says: () => "A worker asks RunComfy about this job at once. The hold stays as it is." },
  {
    name: "adopt", verb: "Adopt", from: UNKNOWN, asks: "request_id", done: "The request is followed from now on.",
    says: (hold) => `The job follows the request that you name, which RunComfy made from it. Until that ends ${hold} stays.`,
  },
  {
    name: "resubmit", verb: "Resubmit", from: UNKNOWN, danger: true, done: "The job waits to be sent again.",
    says: (hold) => `The job is sent again. Only do this when you know that RunComfy has no request of it: if it has, the video is made and paid twice. Meanwhile ${hold} stays.`,
  },
  { name: "settle", verb: "Settle", from: STUCK, danger: true, done: "The job ended as failed.", says: (hold) => `The job ends as failed, and ${hold} is charged to its user.` },
  { name: "release", verb: "Release", from: STUCK, danger: true, done: "The job ended as failed.", says: (hold) => `The job ends as failed, and ${hold} is freed: its user pays nothing.` },
  {
    name: "fail", verb: "Fail", from: [...STUCK, "pending"], danger: true, done: "The job ended as failed.",
    says: (hold) => `The job ends as failed, and ${hold} is freed: its user pays nothing. What RunComfy may already do is not called off.`,
  },
];

export const actsOn = (job) => ACTS.filter((act) => act.from.includes(job.status));

export function ActDialog({ api, job, act, onDone, onClose }) {
  const run = async (form) => {
    const body = act.asks ? { [act.asks]: form.get(act.asks).trim() } : undefined;
    onDone(await api.post(`/v1/admin/jobs/${job.id}/${act.name}`, body), act);
  };
  return html`<${Confirm} title=${`${act.verb} this job?`} verb=${act.verb} danger=${act.danger} act=${run} onClose=${onClose}>
    <p>${act.says(holdOf(job))}</p>
    <p class="mono small mb-2">${job.id} · ${job.user}</p>
    ${act.asks && html`<label class="form-label" for="act-request">RunComfy's request id</label>
      <input id="act-request" name=${act.asks} class="form-control" autocomplete="off" required />`}
  </${Confirm}>`;
}

function holdOf({ cost }) {
  if (cost.state !== "held") return "nothing, since nothing is held,";
  const seconds = cost.output_seconds === null ? "" : ` (${cost.output_seconds} s)`;
  return cost.amount_usd === null ? `a hold of unknown price${seconds}` : `the hold of ${money(cost.amount_usd)}${seconds}`;
}
