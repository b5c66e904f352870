// What the caller made before, newest first.

import { Outputs } from "../shared/outputs.js";
import { Instant, ProblemNote, Status, html, isFinal, useEffect, useRef, useState } from "../shared/view.js";

const PAGE = 12;
const MOST = 100;
const LOOK_MS = 5000;

export function History({ api, rounds, latest, onOpen, onAgain, onMoved }) {
  const [jobs, setJobs] = useState([]);
  const [cursor, setCursor] = useState(null);
  const [problem, setProblem] = useState(null);
  const size = Math.min(MOST, Math.max(PAGE, jobs.length)); // what was shown stays
  const run = useRef(null);
  const load = async (from) => {
    run.current?.abort(); // its answer would belong to a list that is no longer shown
    const { signal } = (run.current = new AbortController());
    try {
      const page = await api.get(`/v1/jobs?${from ? `limit=${PAGE}&cursor=${encodeURIComponent(from)}` : `limit=${size}`}`, { signal });
      setJobs((earlier) => (from ? [...earlier, ...page.data] : page.data));
      setCursor(page.next_cursor);
      setProblem(null);
    } catch (error) {
      if (error.name !== "AbortError") setProblem(error);
    }
  };
  useEffect(() => {
    load(null);
  }, [rounds]);
  // The job in view has a stream; nothing else tells how the others fare.
  useEffect(() => {
    if (jobs.every(isFinal)) return undefined;
    const look = async () => {
      if (document.hidden) return;
      const { data } = await api.get(`/v1/jobs?limit=${size}`);
      const known = new Map(jobs.map(({ id, status }) => [id, status]));
      if (data.some(({ id, status }) => known.get(id) !== status)) onMoved();
    };
    const timer = setInterval(() => look().catch(() => {}), LOOK_MS); // the next look makes up for one that fails
    return () => clearInterval(timer);
  }, [jobs]);
  if (!jobs.length && !problem) return null;
  return html`<section class="mt-5" aria-label="History">
    <h2 class="mb-3">History</h2>
    <${ProblemNote} problem=${problem} />
    <div class="row row-cards">
      ${jobs.map((job) => html`<div class="col-6 col-md-4 col-xl-3" key=${job.id}><${Tile} job=${job.id === latest?.id && !isFinal(job) ? latest : job} onOpen=${onOpen} onAgain=${onAgain} /></div>`)}
    </div>
    ${cursor && html`<button class="btn mt-4" onClick=${() => load(cursor)}>Show more</button>`}
  </section>`;
}

function Tile({ job, onOpen, onAgain }) {
  const name = job.input.prompt || job.id;
  return html`<article class="card h-100">
    <button type="button" class="thumbnail" onClick=${() => onOpen(job)} aria-label=${`Open ${name}`}>
      ${job.output ? html`<${Outputs} job=${job} quiet />` : html`<${Status} status=${job.status} />`}
    </button>
    <div class="card-body p-2 small">
      <div class="text-truncate" dir="auto">${job.input.prompt || job.model}</div>
      <div class="d-flex justify-content-between align-items-center">
        <${Instant} at=${job.created_at} />
        <button class="btn btn-sm" onClick=${() => onAgain(job)} aria-label=${`Again with ${name}`}>Again</button>
      </div>
    </div>
  </article>`;
}
