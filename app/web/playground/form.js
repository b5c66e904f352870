// A form made from a model's schema; the gateway checks it while it is filled in.

import { ProblemNote, duration, html, limitAmount, limitName, money, useEffect, useRef, useState } from "../shared/view.js";
import { Field, fieldsOf, filled, initial } from "./fields.js";

const PAUSE_MS = 700; // checks count as submits, so they wait until typing pauses
const AGAIN_MS = 3000; // time for a gateway that is away to come back

export function ModelForm({ api, model, start, limits, onAsked, onSubmitted, onLimited }) {
  const schema = model.input_schema;
  const required = schema.required || [];
  const fields = fieldsOf(schema);
  const [values, setValues] = useState(() => initial(fields, start));
  const [touched, setTouched] = useState(() => new Set(Object.keys(start)));
  const [check, setCheck] = useState(null);
  const [unchecked, setUnchecked] = useState(null);
  const [refused, setRefused] = useState(null); // stays until the request changes
  const [busy, setBusy] = useState(0);
  const [tried, setTried] = useState(false);
  const attempt = useRef(null); // the key under which a submit may be repeated
  const form = useRef(null);
  const [refusals, setRefusals] = useState(0);
  useEffect(() => {
    const faulty = [...form.current.querySelectorAll("[data-field]")].find((each) => each.querySelector(".field-error"));
    faulty?.querySelector("input, select, textarea")?.focus();
  }, [refusals]);

  const body = { model: model.model_id, input: filled(fields, values) };
  const asked = JSON.stringify(body);
  useEffect(() => {
    onAsked(body);
    setRefused(null);
    const stop = new AbortController();
    const look = async () => {
      try {
        setCheck(await api.post("/v1/jobs/validate", body, { signal: stop.signal }));
        setUnchecked(null);
      } catch (error) {
        if (error.name === "AbortError") return;
        setUnchecked(error);
        if (!error.status || error.status >= 500) timer = setTimeout(look, AGAIN_MS);
      }
    };
    let timer = setTimeout(look, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [asked]);

  // Jobs that come and end move the limits too; that takes no new check of the input.
  useEffect(() => {
    setCheck((earlier) => (earlier && limits ? { ...earlier, limits } : earlier));
  }, [limits]);

  const change = (name) => (value) => {
    setValues((earlier) => ({ ...earlier, [name]: value }));
    setTouched((earlier) => new Set(earlier).add(name));
  };
  const submit = async (event) => {
    event.preventDefault();
    setTried(true);
    if (attempt.current?.asked !== asked) attempt.current = { asked, key: newKey() };
    setBusy((n) => n + 1);
    try {
      const job = await api.post("/v1/jobs", body, { headers: { "Idempotency-Key": attempt.current.key } });
      attempt.current = null;
      setRefused(null);
      setUnchecked(null);
      onSubmitted(job);
    } catch (error) {
      if (error.status && error.status < 500) attempt.current = null;
      setRefused(error);
      if (error.status === 429) onLimited();
      if (error.errors.length) setCheck({ limits: [], cost: null, ...check, valid: false, errors: error.errors });
      setRefusals((n) => n + 1);
    } finally {
      setBusy((n) => n - 1);
    }
  };

  // They come from the last check: what has been filled in since is no longer missing.
  const given = new Set(Object.keys(body.input).map((name) => `/input/${name}`));
  const errors = (check?.errors || []).filter(({ code, pointer }) => code !== "required" || !given.has(pointer));
  const errorsOf = (name) =>
    tried || touched.has(name)
      ? errors.filter(({ pointer }) => pointer === `/input/${name}` || pointer.startsWith(`/input/${name}/`))
      : [];
  const names = Object.keys(fields);
  const problem = refused || unchecked;
  const elsewhere = tried && problem && !names.some((name) => errorsOf(name).length);
  return html`<form class="card" tabindex="-1" ref=${form} onSubmit=${submit} novalidate aria-label=${model.display_name}>
    <div class="card-body">
      ${sorted(names, required).map((name) => html`<${Field} key=${name} api=${api} name=${name} field=${fields[name]}
        required=${required.includes(name)} value=${values[name]} errors=${errorsOf(name)} onChange=${change(name)}
        onBusy=${(more) => setBusy((n) => n + more)} />`)}
      ${(elsewhere || problem?.status === 429 || problem?.status === 0) && html`<${ProblemNote} problem=${problem} />`}
    </div>
    <div class="card-footer d-flex align-items-center">
      <div class="flex-fill small" aria-live="polite"><${Cost} check=${check} /></div>
      <button class="btn btn-primary" disabled=${busy > 0} onClick=${once}>${busy > 0 ? "One moment" : "Make it"}</button>
    </div>
  </form>`;
}

const SHOWN = 2; // limits beside the button; all of them are beside the job

/** A double click asks for one job, even if that is made before the second click. */
const once = (event) => event.detail > 1 && event.preventDefault();

/** The price of what is asked for, and the limits that will be reached first. */
function Cost({ check }) {
  if (!check?.cost) return null;
  const { amount_usd: amount, output_seconds: seconds } = check.cost;
  const met = check.limits.filter((limit) => limit.mode === "enforce" && limit.name !== "concurrent_jobs");
  const share = (limit) => Number(limit.remaining) / (Number(limit.limit) || 1);
  const scarcest = met.sort((one, other) => share(one) - share(other)).slice(0, SHOWN);
  return html`<strong>${money(amount)}</strong>${seconds ? html` for ${duration(seconds)}` : null}
    ${scarcest.map((limit) => (Number(limit.remaining) <= 0
      ? html`<div class="text-danger" key=${limit.name}>${limitName(limit)} is used up</div>`
      : html`<div key=${limit.name}>${limitName(limit)}: ${limitAmount(limit, limit.remaining)} left</div>`))}`;
}

/** Required fields first, each group in the schema's own order. */
const sorted = (names, required) => [
  ...names.filter((name) => required.includes(name)),
  ...names.filter((name) => !required.includes(name)),
];

// crypto.randomUUID exists only on https and loopback.
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
