// What both pages show alike: states, instants, money, limits, problems.

import { html, useRef, useState } from "../vendor/preact-htm.js";
import { Api } from "./api.js";

export { html, render, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";

const COLOURS = {
  pending: "secondary",
  in_queue: "azure",
  in_progress: "blue",
  submit_unknown: "orange",
  completed: "green",
  failed: "red",
  cancelled: "muted",
};

export const STATUSES = Object.keys(COLOURS);

export const isFinal = (job) => ["completed", "failed", "cancelled"].includes(job.status);

export const UNFINISHED = STATUSES.filter((status) => !isFinal({ status }));

/** A word with a dot in the colour of what it means. */
export const Dotted = ({ colour, moves = false, children }) =>
  html`<span class="status status-${colour}"><span class="status-dot ${moves ? "status-dot-animated" : ""}"></span>${children}</span>`;

/** A name of the API as words. */
export const spaced = (name) => name.replaceAll("_", " ");

export const Status = ({ status }) =>
  html`<${Dotted} colour=${COLOURS[status] || "secondary"} moves=${!isFinal({ status })}>${spaced(status)}</${Dotted}>`;

/** An instant as the reader's own clock has it; the whole of it on hover. */
export function Instant({ at }) {
  if (!at) return html`<span class="text-secondary">–</span>`;
  const date = new Date(at);
  const now = new Date();
  const day = { day: "numeric", month: "short", ...(date.getFullYear() === now.getFullYear() ? {} : { year: "numeric" }) };
  const shown = now.toDateString() === date.toDateString()
    ? date.toLocaleTimeString()
    : date.toLocaleString([], { ...day, hour: "numeric", minute: "2-digit" });
  return html`<time datetime=${at} title=${at}>${shown}</time>`;
}

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export const counted = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;

/** An amount as the API writes it, with its thousands apart; no number is made of it. */
const grouped = (amount) => String(amount).replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");

export const money = (amount) => (amount === null || amount === undefined ? "unknown" : `$${grouped(amount)}`);

/** A limit's name in words; the amount says by itself that it is money. */
export const limitName = ({ name }) => spaced(name[0].toUpperCase() + name.slice(1).replace("_usd", ""));

export const limitAmount = ({ name }, amount) => (name.startsWith("spend_usd") ? money(amount) : grouped(amount));

/** One limit as a bar: what is used, what is held, what is left. */
export function LimitBar({ limit }) {
  const most = Number(limit.limit) || 0;
  const share = (amount) => (most ? Math.min(100, (100 * Number(amount)) / most) : 0);
  const full = Number(limit.remaining) <= 0;
  const name = limitName(limit);
  return html`<div class="mb-3">
    <div class="d-flex justify-content-between small">
      <span>${name}${limit.mode === "shadow" ? html` <span class="badge">shadow</span>` : null}</span>
      <span class=${full ? "text-danger" : "text-secondary"}>${limitAmount(limit, limit.remaining)} of ${limitAmount(limit, limit.limit)} left</span>
    </div>
    <div class="gauge" role="meter" aria-label=${name} aria-valuemin="0" aria-valuemax=${most}
      aria-valuenow=${Number(limit.used) + Number(limit.held)}>
      <div class="gauge-used" style=${{ width: `${share(limit.used)}%` }}></div>
      <div class="gauge-held" style=${{ width: `${share(limit.held)}%` }}></div>
    </div>
  </div>`;
}

/** A problem in the gateway's words, with the request's id for whoever is asked. */
export function ProblemNote({ problem }) {
  if (!problem) return null;
  const id = problem.body && problem.body.request_id;
  return html`<div class="alert alert-danger" role="alert">
    <div>${problem.message}</div>
    ${id ? html`<div class="small mt-1">${problem.code} · ${id}</div>` : null}
  </div>`;
}

export function Copy({ text, label = "Copy", size = "btn-sm" }) {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null; // it exists only on https and loopback
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" class="btn ${size}" onClick=${copy}>${done ? "Copied" : label}</button>`;
}

/** Dark or light, as the system has it until somebody chooses. */
export function ThemeSwitch() {
  const [theme, setTheme] = useState(document.documentElement.dataset.bsTheme);
  const other = theme === "dark" ? "light" : "dark";
  const change = () => {
    localStorage.setItem("theme", other);
    document.documentElement.dataset.bsTheme = other;
    setTheme(other);
  };
  return html`<button type="button" class="btn btn-sm btn-ghost-secondary" title=${`Use ${other} colours`} onClick=${change}>
    ${other === "dark" ? "Dark" : "Light"}
  </button>`;
}

// `autofocus` alone does nothing for elements drawn after the page has loaded.
const focused = (input) => input && !input.value && input.focus();

const NOT_ONE = "That is not one: keys and tokens are plain letters, digits and signs, without blanks.";

/** Shows `Inside` to whoever has a credential that `probe` accepts, and asks others for one. If the gateway has no `probe`, it
 * says that something is `missing`. */
export function Gate({ session, probe, missing, Inside, ...words }) {
  const [signedIn, setSignedIn] = useState(Boolean(session.token));
  const [lost, setLost] = useState(false);
  const leave = (isLost) => {
    session.signOut();
    setLost(isLost);
    setSignedIn(false);
  };
  const api = useRef(new Api(session, () => leave(true))).current;
  if (signedIn) return html`<${Inside} api=${api} onLeave=${() => leave(false)} />`;
  const check = async (token) => {
    session.signIn(token);
    try {
      await api.get(probe);
    } catch (problem) {
      session.signOut();
      throw missing && problem.status === 404 ? new Error(missing) : problem;
    }
  };
  return html`<${SignIn} ...${words} lost=${lost} check=${check} onDone=${() => setSignedIn(true)} />`;
}

function SignIn({ title, label, hint, lost, check, onDone }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(lost ? { message: `You were signed out: that ${label.toLowerCase()} is no longer valid.` } : null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      // Nothing else can go into a header.
      if (!/^[\x21-\x7e]+$/.test(token.trim())) throw new Error(NOT_ONE);
      await check(token);
      onDone();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  return html`<main class="container-tight py-6">
    <form class="card card-md" onSubmit=${submit}>
      <div class="card-body">
        <h1 class="h2 mb-3">${title}</h1>
        <${ProblemNote} problem=${problem} />
        <label class="form-label" for="token">${label}</label>
        <input id="token" class="form-control" type="password" autocomplete="off" required autofocus ref=${focused}
          value=${token} onInput=${(event) => setToken(event.target.value)} />
        <div class="form-hint mt-2">${hint}</div>
        <button class="btn btn-primary w-100 mt-4" disabled=${busy}>${busy ? "One moment" : "Sign in"}</button>
      </div>
    </form>
  </main>`;
}
