// What the console's views are built of: dialogs, tables that load as they are scrolled, fields.

import { ProblemNote, html, useEffect, useRef, useState } from "../shared/view.js";
import { useAct, useSeen } from "./load.js";
import { to } from "./route.js";

/** A dialog while it is rendered, begun at the first field of a form; `drawer` puts it at the side. Escape closes it. */
export function Dialog({ title, onClose, drawer = false, head, footer, children }) {
  const ref = useRef(null);
  useEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    dialog.querySelector("form input")?.focus();
    return () => dialog.close(); // one that is taken away open gives the focus back to nobody
  }, []);
  // Not on a click: text that is selected from within may end outside.
  const outside = (event) => {
    if (!drawer || event.target !== ref.current) return;
    event.preventDefault(); // it would take the cursor from where it goes back to
    ref.current.close();
  };
  return html`<dialog ref=${ref} class="sheet ${drawer ? "sheet-side" : ""}" aria-label=${title}
    onClose=${(event) => event.target === ref.current && onClose()} onMouseDown=${outside}>
    <div class="sheet-inner">
      <header class="sheet-head">
        <h2 class="h3 m-0 flex-fill text-break">${title}</h2>
        ${head}
        <button type="button" class="btn btn-sm flex-shrink-0" onClick=${() => ref.current.close()}>Close</button>
      </header>
      <div class="sheet-body" tabindex="-1">${children}</div>
      ${footer && html`<footer class="sheet-foot">${footer}</footer>`}
    </div>
  </dialog>`;
}

/** A form in a dialog, which closes once `act` went well; `children` is given what was wrong with it. */
function Asking({ title, verb, keep, danger = false, act, onClose, children, ...form }) {
  const [run, busy, problem] = useAct(act);
  const ref = useInView(problem);
  const submit = async (event) => {
    event.preventDefault();
    // Closed as Escape does it: the cursor goes back to where it was.
    if (await run(new FormData(event.target))) event.target.closest("dialog").close();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form ref=${ref} onSubmit=${submit} ...${form}>
      ${children(problem)}
      <div class="d-flex justify-content-end gap-2 mt-3">
        <button type="button" class="btn" onClick=${(event) => event.target.closest("dialog").close()}>${keep}</button>
        <button class="btn ${danger ? "btn-danger" : "btn-primary"}" disabled=${busy}>${verb}</button>
      </div>
    </form>
  </${Dialog}>`;
}

/** Asks before something is done; the question says what it does. `children` may hold fields, `act` is given what they hold. */
export const Confirm = ({ children, ...asking }) => html`<${Asking} keep="Keep as it is" ...${asking}>${(problem) => html`
  ${children}
  <${ProblemNote} problem=${problem} />
  <${Errors} errors=${problem?.errors || []} />`}
</${Asking}>`;

/** A form in a dialog, whose refusals appear beside the fields that they name. */
export const FormDialog = ({ children, ...asking }) => html`<${Asking} keep="Cancel" novalidate ...${asking}>${(problem) => html`
  <${Refusal} problem=${problem} />
  ${children((pointer) => errorsAt(problem, pointer))}`}
</${Asking}>`;

/** A problem of a form, whose fields say by themselves what is wrong with them. */
export const Refusal = ({ problem }) => (problem?.errors?.length > 0
  ? html`<div class="alert alert-danger" role="alert">Not saved: what is marked below needs another look.</div>`
  : html`<${ProblemNote} problem=${problem} />`);

/** Brings what a form says of a `problem` into view, and the cursor to the first field that is meant; gives the form's ref. */
export function useInView(problem) {
  const form = useRef(null);
  useEffect(() => {
    form.current?.querySelector("[role=alert]")?.scrollIntoView({ block: "nearest" });
    form.current?.querySelector("[aria-invalid=true]")?.focus();
  }, [problem]);
  return form;
}

/** What a form's fields hold; `edited` leaves of a body what was changed here: the rest may be another operator's by now. */
export function useFields(start) {
  const before = useRef(start).current;
  const [fields, setFields] = useState(before);
  return {
    fields,
    set: (name) => (value) => setFields((earlier) => ({ ...earlier, [name]: value })),
    edited: (body) => Object.fromEntries(Object.entries(body).filter(([name]) => fields[name] !== before[name])),
  };
}

export const errorsAt = (problem, pointer) =>
  (problem?.errors || []).filter((error) => error.pointer === pointer || error.pointer?.startsWith(`${pointer}/`));

/** A labelled field; `children` is given the attributes that tie it to its label and errors. */
export function Field({ id, label, hint, errors = [], children }) {
  const described = [hint && `${id}-hint`, errors.length && `${id}-errors`].filter(Boolean).join(" ");
  return html`<div class="mb-3">
    <label class="form-label" for=${id}>${label}</label>
    ${children({ id, "aria-invalid": errors.length > 0, "aria-describedby": described || undefined })}
    ${hint && html`<div id=${`${id}-hint`} class="form-hint">${hint}</div>`}
    <${Errors} id=${`${id}-errors`} errors=${errors} />
  </div>`;
}

export const Errors = ({ id, errors }) =>
  errors.length > 0 &&
  html`<div id=${id}>${errors.map((error) => html`<div class="field-error" key=${error.pointer + error.code}>${error.detail}</div>`)}</div>`;

export function TextField({ id, label, hint, errors, value, onChange, ...more }) {
  return html`<${Field} id=${id} label=${label} hint=${hint} errors=${errors}>
    ${(ties) => html`<input class="form-control" autocomplete="off" ...${ties} ...${more} value=${value ?? ""}
      onInput=${(event) => onChange(event.target.value)} />`}
  </${Field}>`;
}

export function SelectField({ id, label, hint, errors, value, choices, onChange }) {
  return html`<${Field} id=${id} label=${label} hint=${hint} errors=${errors}>
    ${(ties) => html`<select class="form-select" ...${ties} onChange=${(event) => onChange(event.target.value)}><${Options} choices=${choices} value=${value ?? ""} /></select>`}
  </${Field}>`;
}

/** What a select offers: words, or pairs of a value and what it is called. */
export const Options = ({ choices, value }) =>
  choices.map((choice) => {
    const [key, words = key] = [choice].flat();
    return html`<option key=${key} value=${key} selected=${key === value}>${words}</option>`;
  });

/** A filter of a view: a field, or a choice where there are `choices`. */
export function Filter({ id, label, choices, value, ...input }) {
  return html`<div>
    <label for=${id}>${label}</label>
    ${choices
      ? html`<select id=${id} class="form-select form-select-sm" ...${input}><${Options} choices=${choices} value=${value} /></select>`
      : html`<${FilterInput} id=${id} value=${value} ...${input} />`}
  </div>`;
}

/** The input of a filter, which acts when it is left: until then what is typed stays, though the list is drawn anew. */
export function FilterInput({ value = "", class: more = "", ...input }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return html`<input class="form-control form-control-sm ${more}" autocomplete="off" ...${input} value=${text} onInput=${(event) => setText(event.target.value)} />`;
}

export function CheckField({ id, label, hint, checked, onChange }) {
  return html`<label class="form-check mb-3" for=${id}>
    <input id=${id} type="checkbox" class="form-check-input" checked=${checked} onChange=${(event) => onChange(event.target.checked)} />
    <span class="form-check-label">${label}</span>
    ${hint && html`<span class="form-check-description">${hint}</span>`}
  </label>`;
}

/** What a date field holds, which is the reader's own time; what is no date is sent as it is, to be refused in words. */
export function instant(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? text || null : date.toISOString();
}

/** A list of words, one a line; empty stands for `null`, which means all. */
export function LinesField({ value, onChange, ...field }) {
  const [text, setText] = useState((value || []).join("\n"));
  const change = (event) => {
    setText(event.target.value);
    const lines = event.target.value.split("\n").map((line) => line.trim()).filter(Boolean);
    onChange(lines.length ? lines : null);
  };
  return html`<${Field} ...${field}>
    ${(ties) => html`<textarea class="form-control" rows="2" ...${ties} value=${text} onInput=${change}></textarea>`}
  </${Field}>`;
}

/** A view: its name, what can be done there, and its content. */
export function View({ title, tools, children }) {
  return html`<div class="view-head">
      <h1 class="h2 m-0" tabindex="-1">${title}</h1>
      <div class="view-tools">${tools}</div>
    </div>
    ${children}`;
}

export function Card({ title, tools, flush = false, children }) {
  return html`<section class="card" aria-label=${title}>
    <div class="card-header"><h2 class="card-title">${title}</h2>${tools && html`<div class="card-actions">${tools}</div>`}</div>
    ${flush ? children : html`<div class="card-body">${children}</div>`}
  </section>`;
}

/** Facts as pairs; those without a value are left out. */
export function Facts({ facts }) {
  return html`<dl class="facts">
    ${facts.filter(([, value]) => value !== null && value !== undefined && value !== "").map(
      ([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`,
    )}
  </dl>`;
}

/** What a list's element needs so that the keyboard goes on where the row or button that it stood on is gone: in the next row, or
 * else at the view's name. */
export function useNextRow() {
  const held = useRef({});
  const hold = ({ target }) => {
    const cell = target.closest("tbody td");
    held.current = cell ? { target, column: cell.cellIndex, rows: [...cell.closest("tbody").rows].slice(cell.parentNode.sectionRowIndex) } : {};
  };
  useEffect(() => {
    const { target, column, rows } = held.current;
    if (!target || target.isConnected || document.activeElement !== document.body) return;
    const next = rows.filter((row) => row.isConnected).map((row) => row.cells[column].querySelector("a, button")).find(Boolean);
    (next || document.querySelector("main h1")).focus();
  });
  return { onFocusCapture: hold };
}

/** A table of a list that is read page by page; `row` gives cells. */
export function PagedTable({ label, pages, columns, row, keyOf = (each) => each.id, empty }) {
  const nextRow = useNextRow();
  const table = html`<div class="table-responsive" tabindex="0" role="group" aria-label=${label}><table class="table card-table table-dense" aria-label=${label}>
    <thead><tr>${columns.map(([name, kind]) => html`<th scope="col" class=${kind} key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${pages.rows.map((each) => html`<tr key=${keyOf(each)}>
      ${row(each).map((cell, n) => html`<td class=${columns[n][1]} title=${columns[n][1] === "tight" && typeof cell === "string" ? cell : undefined} key=${n}>${cell}</td>`)}
    </tr>`)}</tbody>
  </table></div>`;
  return html`<div class="card" ...${nextRow}>
    ${pages.rows.length > 0 && table}
    <${ListEnd} pages=${pages} empty=${empty} />
  </div>`;
}

export const Refresh = ({ pages }) => html`<button class="btn btn-sm" onClick=${() => pages.reload()}>Refresh</button>`;

/** A job by the end of its id, for tables. */
export const JobLink = ({ id }) => html`<a class="mono" href=${to("jobs", { job: id })} aria-label=${`Job ${id}`}>…${id.slice(-8)}</a>`;

/** Where a list ends for now: it reads on once this is nearly in view, and says what keeps it. */
export function ListEnd({ pages, empty }) {
  const ref = useSeen(pages.more, [pages.rows.length, pages.cursor]);
  return html`<div ref=${ref} class="list-end" aria-live="polite">
    ${pages.problem && html`<${ProblemNote} problem=${pages.problem} /><button class="btn btn-sm" onClick=${pages.retry}>Try again</button>`}
    ${pages.busy && "Loading…"}
    ${!pages.busy && !pages.problem && !pages.rows.length && html`<div class="py-4">${empty}</div>`}
    ${!pages.busy && !pages.problem && pages.cursor && html`<button class="btn btn-sm" onClick=${pages.more}>Show more</button>`}
  </div>`;
}

export const Json = ({ value }) => html`<pre class="json" tabindex="0">${JSON.stringify(value, null, 2)}</pre>`;
