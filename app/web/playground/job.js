// One job: how far it is, then what came of it.

import { ROOT } from "../shared/api.js";
import { Downloads, Outputs } from "../shared/outputs.js";
import { Copy, Instant, ProblemNote, Status, duration, html, isFinal, money, useEffect, useMemo, useState } from "../shared/view.js";

const RETRY_MS = 2000;

export function JobCard({ api, job: given, onChange, onEnded, onAgain }) {
  const [job, setShown] = useState(given);
  const [problem, setProblem] = useState(null);
  const [cancelling, setCancelling] = useState(false); // RunComfy may take its time
  const setJob = (now) => {
    setShown(now);
    onChange(now);
  };
  // What was asked, and what came of it, concerned the job as it was.
  useEffect(() => {
    setProblem(null);
    setCancelling(false);
  }, [job?.status]);
  useEffect(() => {
    if (!given) return undefined;
    const stop = new AbortController();
    const { signal } = stop;
    // On a page that was left open for a day its links may have expired, or it may have succeeded late.
    if (isFinal(given)) api.get(`/v1/jobs/${given.id}`, { signal }).then(setShown, () => {});
    else follow(api, given.id, { signal, onChange: setJob }).then((ended) => ended && onEnded());
    return () => stop.abort();
  }, []);
  if (!job) {
    return html`<section class="card stage"><div class="empty">
      <p class="empty-title">Nothing in the making</p>
      <p class="empty-subtitle">Fill in the form; what you make appears here, and stays in the list below.</p>
    </div></section>`;
  }
  const cancel = async () => {
    setProblem(null);
    setCancelling(true);
    try {
      const { job: now } = await api.post(`/v1/jobs/${job.id}/cancel`);
      setJob(now);
      onEnded();
    } catch (error) {
      setProblem(error);
      setCancelling(false);
    }
  };
  return html`<section class="card stage" tabindex="-1" aria-label="Job">
    <div class="card-header">
      <span role="status"><${Status} status=${job.status} /></span>
      <span class="ms-3 small flex-fill text-truncate">${job.model}</span>
      <span class="small text-nowrap ms-3">${money(job.cost.amount_usd)} ${job.cost.state === "none" ? "" : job.cost.state}</span>
    </div>
    ${job.output ? html`<${Outputs} job=${job} plays=${!wantsCalm()} />` : !isFinal(job) && html`<${Progress} job=${job} />`}
    <div class="card-body">
      <${ProblemNote} problem=${problem} />
      ${job.error && html`<div class="alert alert-danger" role="alert">${job.error.message}<div class="small">${job.error.code}</div></div>`}
      ${job.input.prompt && html`<p class="mb-3 prompt" dir="auto">${job.input.prompt}</p>`}
      <div class="d-flex flex-wrap gap-2">
        ${!isFinal(job) && job.status !== "submit_unknown" && html`<button class="btn" disabled=${cancelling} onClick=${cancel}>${cancelling ? "Cancelling" : "Cancel"}</button>`}
        <${Downloads} job=${job} />
        <button class="btn" onClick=${() => onAgain(job)}>Run again with changes</button>
        <${Copy} text=${asCurl(job)} label="Copy as curl" size="" />
      </div>
      <div class="small mt-3 job-id">${job.id} · <${Instant} at=${job.created_at} /></div>
    </div>
  </section>`;
}

function Progress({ job }) {
  const [now, setNow] = useState(Date.now());
  const receivedAt = useMemo(Date.now, [job]); // `eta_seconds` counts from here
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const left = job.eta_seconds - Math.max(0, now - receivedAt) / 1000; // by then half of such jobs have ended
  const place = job.queue_position ?? job.pending_position;
  return html`<div class="card-body text-center py-5">
    <div class="display-6" role="timer">${duration((now - new Date(job.created_at)) / 1000)}</div>
    <div class="mt-2">
      ${job.status === "submit_unknown" && html`<div>RunComfy's answer was lost, and nobody knows yet whether it took the job: it is not sent again by itself. An operator of this gateway can settle it.</div>`}
      ${place !== null && place !== undefined && html`<span class="d-inline-block mx-2">place ${place} in the ${job.status === "pending" ? "waiting line" : "queue"}</span>`}
      ${left >= 1 && html`<span class="d-inline-block mx-2">about ${duration(left)} to go</span>`}
    </div>
    <div class="progress progress-sm mt-4"><div class="progress-bar progress-bar-indeterminate"></div></div>
  </div>`;
}

const wantsCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Follows a job to its end; a stream that breaks is resumed where it broke. Resolves to false if aborted.
 * Only a page in view has a stream: over HTTP/1.1 a browser has six connections for all its tabs. */
async function follow(api, id, { signal, onChange }) {
  let lastEventId;
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    const view = new AbortController(); // ends when the page is hidden
    document.addEventListener("visibilitychange", () => view.abort(), { signal: view.signal });
    const both = AbortSignal.any([signal, view.signal]);
    try {
      for await (const { id: seen, data } of api.events(`/v1/jobs/${id}/events`, { lastEventId, signal: both })) {
        lastEventId = seen;
        onChange(data);
        if (isFinal(data)) return true;
      }
    } catch (error) {
      if (signal.aborted || error.status === 401 || error.status === 404) return false;
    } finally {
      view.abort(); // the next round listens anew
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    if (signal.aborted) return false;
    try {
      const job = await api.get(`/v1/jobs/${id}`, { signal });
      onChange(job);
      if (isFinal(job)) return true;
    } catch {
      // The gateway is away for a moment; the next round asks again.
    }
  }
}

function asCurl(job) {
  const body = JSON.stringify({ model: job.model, input: job.input }, null, 2).replaceAll("'", "'\\''");
  return `curl ${ROOT}/v1/jobs -H "Authorization: Bearer $GATEWAY_KEY" -H 'Content-Type: application/json' -d '${body}'\n`;
}
