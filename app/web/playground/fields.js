// One input for each kind of field that a model's schema may ask for.

import { html, spaced, useState } from "../shared/view.js";
import { MediaField, MediaList, mediaKind } from "./media.js";

const FEW = 12;
const NESTED = ["array", "object"];
const NUMBERS = ["integer", "number", "float"];
const STEPS = 100; // of a slider: with more, nobody hits the one they mean

/** The fields of a schema, each of one type: null is entered by leaving it empty. */
export function fieldsOf(schema) {
  const single = (field) => ({ ...field, type: [field.type].flat().find((type) => type !== "null") });
  return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, field]) => [name, single(field)]));
}

/** One of null is none: the gateway fills in nothing, and RunComfy takes a field that is left out for null. */
const hasDefault = (field) => (field.default ?? undefined) !== undefined;

/** What a form holds before anything is typed: defaults of choices, numbers and switches alone. */
export function initial(fields, start) {
  const values = {};
  for (const [name, field] of Object.entries(fields)) {
    const isFree = field.type === "string" && !field.enum;
    if (name in start) values[name] = start[name];
    else if (!isFree && !NESTED.includes(field.type) && hasDefault(field)) values[name] = field.default;
  }
  return values;
}

/** Of what one form holds, the texts that another has a field for by the same name. */
export function carried(values, fields, others) {
  const isText = (field, name) => field && controlOf(field, mediaKind(name, field)) === Text;
  return Object.fromEntries(Object.entries(values).filter(([name]) => isText(fields[name], name) && isText(others[name], name)));
}

/** What is sent: fields that were left empty are left out, unless nothing is a choice of theirs. */
export function filled(fields, values) {
  const isEmpty = (value) => value === undefined || value === null || value === "" || (Array.isArray(value) && !value.length);
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => !isEmpty(value) || fields[name]?.enum?.includes(value)));
}

export function Field({ api, name, field, required, value, errors, onChange, onBusy }) {
  const id = `field-${name}`;
  const label = field.title || spaced(name);
  const kind = mediaKind(name, field);
  const Control = controlOf(field, kind);
  const described = field.description ? `${id}-hint ${id}-errors` : `${id}-errors`;
  // What ties a control to its label, hint and errors.
  const ties = { id, "aria-invalid": errors.length > 0, "aria-describedby": described };
  const clearable = STAYING.includes(Control) && !required && !hasDefault(field) && value !== undefined;
  const shown = html`
    <${Control} api=${api} name=${name} field=${field} kind=${kind} value=${value} label=${label} ties=${ties} onChange=${onChange} onBusy=${onBusy} />
    ${clearable && html`<button type="button" class="btn btn-sm btn-ghost-secondary clear" aria-label=${`Clear ${label}`} onClick=${() => onChange(undefined)}>Clear</button>`}
    ${field.description && html`<div id=${`${id}-hint`} class="form-hint">${field.description}</div>`}
    <div id=${`${id}-errors`}>
      ${errors.map((error) => html`<div class="field-error" key=${error.code + error.detail}>${error.detail}</div>`)}
    </div>`;
  const title = html`${label}${required && html`<span class="required" aria-hidden="true"> *</span><span class="visually-hidden"> required</span>`}`;
  return GROUPS.includes(Control)
    ? html`<fieldset class="mb-3" data-field aria-describedby=${described}><legend class="form-label">${title}</legend>${shown}</fieldset>`
    : html`<div class="mb-3" data-field><label class="form-label" for=${id}>${title}</label>${shown}</div>`;
}

function controlOf(field, kind) {
  if (kind) return field.type === "array" ? MediaList : MediaField;
  if (field.enum) return field.enum.length <= FEW ? Segments : Select;
  switch (field.type) {
    case "boolean":
      return Switch;
    case "integer":
    case "number":
    case "float":
      return (field.maximum - field.minimum) / stepOf(field) <= STEPS ? Slider : NumberBox;
    case "array":
      return NESTED.includes(field.items?.type) ? Json : Lines;
    case "object":
      return Json;
    default:
      return Text;
  }
}

const GROUPS = [MediaList, MediaField, Segments]; // made of several controls each
const STAYING = [Segments, Switch, Slider]; // which cannot be emptied by hand

const named = (choice) => (choice === "" ? "(empty)" : String(choice ?? "none"));

function Segments({ ties, field, value, onChange }) {
  return html`<div class="form-selectgroup">
    ${field.enum.map((choice) => html`<label class="form-selectgroup-item" key=${String(choice)}>
      <input type="radio" name=${ties.id} class="form-selectgroup-input" checked=${value === choice} onChange=${() => onChange(choice)} />
      <span class="form-selectgroup-label">${named(choice)}</span>
    </label>`)}
  </div>`;
}

function Select({ ties, field, value, onChange }) {
  const pick = (event) => onChange(field.enum[event.target.selectedIndex - 1]);
  return html`<select ...${ties} class="form-select" onChange=${pick}>
    <option selected=${value === undefined}>not set</option>
    ${field.enum.map((choice) => html`<option key=${String(choice)} selected=${value === choice}>${named(choice)}</option>`)}
  </select>`;
}

function Switch({ ties, value, onChange }) {
  return html`<span class="form-switch d-block">
    <input ...${ties} type="checkbox" role="switch" class="form-check-input" checked=${Boolean(value)} onChange=${(event) => onChange(event.target.checked)} />
  </span>`;
}

const stepOf = (field) => (field.type === "integer" ? 1 : 0.01);

function Slider({ ties, field, value, onChange }) {
  return html`<div class="d-flex align-items-center gap-3">
    <input ...${ties} type="range" class="form-range" min=${field.minimum} max=${field.maximum} step=${stepOf(field)}
      value=${value ?? field.minimum} onInput=${(event) => onChange(Number(event.target.value))} />
    <output for=${ties.id} class="slider-value">${value ?? "not set"}</output>
  </div>`;
}

function NumberBox({ ties, field, value, onChange }) {
  const [text, setText] = useState(String(value ?? "")); // as typed: the number in `2.` would be written `2`
  const change = (event) => {
    setText(event.target.value);
    onChange(event.target.value === "" ? undefined : Number(event.target.value));
  };
  return html`<input ...${ties} type="number" class="form-control" step=${field.type === "integer" ? 1 : "any"}
    min=${field.minimum} max=${field.maximum} value=${text} onInput=${change} />`;
}

function Text({ ties, name, value, onChange }) {
  const common = { ...ties, class: "form-control", dir: "auto", value: value ?? "", onInput: (event) => onChange(event.target.value) };
  return /prompt|text|lyric|script|caption/.test(name)
    ? html`<textarea rows="3" ...${common}></textarea>`
    : html`<input type="text" ...${common} />`;
}

// What cannot be parsed is sent as it is: the gateway says in words what is wrong with it.

function Lines({ ties, field, value, onChange }) {
  const [text, setText] = useState((value || []).join("\n"));
  const read = (line) => (NUMBERS.includes(field.items?.type) && Number.isFinite(Number(line)) ? Number(line) : line);
  const change = (event) => {
    setText(event.target.value);
    onChange(event.target.value.split("\n").filter((line) => line.trim()).map(read));
  };
  return html`<textarea ...${ties} rows="3" class="form-control" value=${text} onInput=${change} placeholder="one per line"></textarea>`;
}

function Json({ ties, field, value, onChange }) {
  const [text, setText] = useState(value === undefined ? "" : JSON.stringify(value, null, 2));
  const read = (json) => {
    try {
      return JSON.parse(json);
    } catch {
      return json;
    }
  };
  const change = (event) => {
    setText(event.target.value);
    onChange(read(event.target.value));
  };
  return html`<textarea ...${ties} rows="3" class="form-control" value=${text} onInput=${change}
    placeholder=${`JSON, like ${field.type === "array" ? "[{ ... }]" : "{ ... }"}`}></textarea>`;
}
