// What a job made: films, pictures and sounds.

import { here } from "./api.js";
import { html, useState } from "./view.js";

/** All outputs of a job, films playing where that is wanted; or quietly the first one, for a tile. */
export function Outputs({ job, plays = false, quiet = false }) {
  const urls = quiet ? job.urls.outputs.slice(0, 1) : job.urls.outputs;
  return html`${urls.map((url, n) => html`<${Output} key=${url} url=${here(url)} kind=${kindOf(job, n)} plays=${plays} quiet=${quiet}
    label=${job.input.prompt || job.model} />`)}`;
}

/** Tells what a job's n-th output is, by the key that it stands under: `image`, `audio` or `video`. */
function kindOf(job, n) {
  const kinds = Object.entries(job.output).flatMap(([key, urls]) => [urls].flat().map(() => key.replace(/s$/, "")));
  return kinds[n] || "video";
}

/** Why a file is not shown, of which its element says nothing: what a tile says, and the job. */
const GONE = ["no file", "cannot be fetched: RunComfy no longer has it, or does not answer."];
const STRANGE = ["no preview", "is of a kind that this browser cannot show. It can be downloaded."];
const AWAY = ["no answer", "cannot be fetched: the gateway cannot be reached."];

const faultOf = (url) => fetch(url, { method: "HEAD" }).then((answer) => (answer.ok ? STRANGE : GONE), () => AWAY);

function Output({ url, kind, plays, quiet, label }) {
  const [fault, setFault] = useState(null);
  const onError = async () => setFault(await faultOf(url));
  if (fault && quiet) return html`<span>${fault[0]}</span>`;
  if (fault) return html`<div class="card-body">The ${kind} ${fault[1]}</div>`;
  if (kind === "image") return html`<img class="output" src=${url} alt=${label} loading="lazy" onError=${onError} />`;
  if (kind === "audio" && quiet) return html`<span>sound</span>`; // no controls inside a button
  if (kind === "audio") return html`<audio class="w-100 p-3" src=${url} controls preload="metadata" aria-label=${label} onError=${onError}></audio>`;
  return quiet
    ? html`<video class="output" src=${`${url}#t=0.1`} muted playsinline preload="metadata" aria-label=${label} onError=${onError}></video>`
    : html`<video class="output" src=${url} controls loop=${plays} muted=${plays} autoplay=${plays} playsinline preload="metadata" aria-label=${label} onError=${onError}></video>`;
}

export const Downloads = ({ job, size = "" }) =>
  job.urls.outputs.map((url, n) => html`<a class="btn ${size}" href=${here(url)} download key=${n}>Download${job.urls.outputs.length > 1 ? ` ${n + 1}` : ""}</a>`);
