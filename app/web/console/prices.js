// The operators' table of prices, edited as a whole.

import { ProblemNote, html, useEffect, useState } from "../shared/view.js";
import { useAct, useRead } from "./load.js";
import { Errors, Options, Refusal, View, errorsAt, useInView, useNextRow } from "./parts.js";

const PATH = "/v1/admin/prices";
const MOVED = "Another operator has changed the prices meanwhile. Note what you typed, and load this page again to begin from theirs.";
const NEW = { model: "", base_price_usd: "", price_unit: "second", when: "" };

// Both outlive the view, which somebody may leave to look something up.
let unsaved = null; // lines that were edited
let begun = null; // what the lines were made of

addEventListener("beforeunload", (event) => unsaved && event.preventDefault());

export function Prices({ api }) {
  const read = useRead(api, PATH);
  const [lines, setLines] = useState(unsaved);
  const [saved, setSaved] = useState(null); // the lines as last saved
  const linesOf = ({ prices }) => {
    begun = JSON.stringify(prices);
    return prices.map((price, n) => ({ ...price, id: n, when: written(price.when) }));
  };
  useEffect(() => {
    if (read.data && !unsaved) setLines(linesOf(read.data));
  }, [read.data]);
  const [save, busy, problem] = useAct(async () => {
    const prices = lines.map(({ id, when, ...line }) => ({ ...line, model: line.model.trim(), base_price_usd: line.base_price_usd.trim(), when: parsed(when) }));
    const present = await api.get(PATH);
    if (JSON.stringify(present.prices) !== begun) throw new Error(MOVED);
    const kept = linesOf(await api.put(PATH, { prices }));
    if (unsaved === lines) unsaved = null;
    setLines((now) => (now === lines ? kept : now)); // what was typed in the meantime stays
    setSaved(kept);
  });
  const form = useInView(problem);
  const nextRow = useNextRow();
  const edit = (edited) => setLines((unsaved = edited));
  const change = (at, part) => edit(lines.map((line, n) => (n === at ? { ...line, ...part } : line)));
  const add = () => edit([...lines, { ...NEW, id: Math.max(-1, ...lines.map(({ id }) => id)) + 1 }]);
  const submit = (event) => {
    event.preventDefault();
    save();
  };
  return html`<${View} title="Prices">
    <p>What stands here goes before RunComfy's catalogue. Jobs accepted before a change keep their price. Where several lines fit, the one with most conditions wins.</p>
    <${ProblemNote} problem=${read.problem} />
    ${lines && html`<form class="card" ref=${form} ...${nextRow} onSubmit=${submit} novalidate>
      ${problem && html`<div class="card-body"><${Refusal} problem=${problem} /></div>`}
      ${lines.length > 0 && html`<div class="table-responsive" tabindex="0" role="group" aria-label="Prices"><table class="table card-table table-dense" aria-label="Prices">
        <thead><tr><th scope="col">Model</th><th scope="col">Price, $</th><th scope="col">Per</th><th scope="col">Only when</th><th scope="col"><span class="visually-hidden">Remove</span></th></tr></thead>
        <tbody>${lines.map((line, n) => html`<${Line} key=${line.id} line=${line} n=${n} errors=${errorsAt(problem, `/prices/${n}`)}
          onChange=${(part) => change(n, part)} onRemove=${() => edit(lines.filter((_, each) => each !== n))} />`)}</tbody>
      </table></div>`}
      ${!lines.length && html`<div class="card-body">No line: all prices are RunComfy's own.</div>`}
      <div class="card-footer d-flex gap-2 align-items-center py-2">
        <button type="button" class="btn btn-sm" onClick=${add}>Add a line</button>
        <span class="ms-auto small" role="status">${unsaved ? "Not saved yet." : saved === lines && "Saved."}</span>
        <button class="btn btn-sm btn-primary" disabled=${busy}>Save prices</button>
      </div>
    </form>`}
  </${View}>`;
}

function Line({ line, n, errors, onChange, onRemove }) {
  const input = (name, label, more = {}) => html`<input class="form-control form-control-sm" autocomplete="off" aria-label=${`Line ${n + 1}: ${label}`} ...${more}
    aria-invalid=${errors.some(({ pointer }) => pointer.endsWith(`/${name}`))} aria-describedby=${errors.length ? `price-${n}-errors` : undefined}
    value=${line[name]} onInput=${(event) => onChange({ [name]: event.target.value })} />`;
  return html`<tr>
    <td class="price-model">${input("model", "model")}<${Errors} id=${`price-${n}-errors`} errors=${errors} /></td>
    <td>${input("base_price_usd", "price", { inputmode: "decimal", size: 8 })}</td>
    <td class="price-unit"><select class="form-select form-select-sm" aria-label=${`Line ${n + 1}: unit`} onChange=${(event) => onChange({ price_unit: event.target.value })}>
      <${Options} choices=${["second", "output"]} value=${line.price_unit} />
    </select></td>
    <td class="price-when">${input("when", "condition", { placeholder: "resolution=1080p, audio=true" })}</td>
    <td class="text-end"><button type="button" class="btn btn-sm" aria-label=${`Remove line ${n + 1}`} onClick=${onRemove}>Remove</button></td>
  </tr>`;
}

const written = (when) => Object.entries(when).map(([name, value]) => `${name}=${value}`).join(", ");

function parsed(text) {
  const pairs = text.split(",").map((pair) => pair.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((pair) => {
    const [name, ...value] = pair.split("=");
    return [name.trim(), value.join("=").trim()];
  }));
}
