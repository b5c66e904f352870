// Keys: made and rotated with a secret that is shown once, changed, revoked.

import { Copy, Instant, html, useState } from "../shared/view.js";
import { LimitsEditor, LimitsLine, limitsBody } from "./limits.js";
import { usePages } from "./load.js";
import { Confirm, Dialog, Errors, FilterInput, FormDialog, LinesField, Options, PagedTable, TextField, View, instant, useFields } from "./parts.js";
import { queryOf, replace, to } from "./route.js";

const COLUMNS = [["Key", "tight"], ["User", "tight"], ["State", "tight"], ["Scopes", "long"], ["Models", "tight"], ["Own limits", "long"], ["Last used", "tight"], ["", "acts"]];
const SCOPES = [
  ["jobs:read", "read jobs"],
  ["jobs:write", "make and cancel jobs"],
  ["files", "upload files"],
  ["webhooks", "manage webhooks"],
  ["tokens", "mint client tokens"],
  ["act_as", "act for users of its own"],
];
const USUAL = ["jobs:read", "jobs:write", "files", "webhooks"];
const OVERLAPS = [["0", "none: the present secret ends now"], ["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"]];

export function Keys({ api, query }) {
  const pages = usePages(api, `/v1/admin/keys?${queryOf({ limit: 100, user: query.user })}`);
  const [open, setOpen] = useState(null); // {what, key}
  const [made, setMade] = useState(null);
  const close = () => {
    setOpen(null);
    pages.reload({ quiet: true }); // done or refused, it tells what others did meanwhile
  };
  const saved = (key) => key?.key && setMade(key);
  const tools = html`
    <${FilterInput} class="w-auto" placeholder="all users" aria-label="User" value=${query.user}
      onChange=${(event) => replace("keys", { user: event.target.value.trim() })} />
    <button class="btn btn-sm btn-primary" onClick=${() => setOpen({ what: "form" })}>New key</button>`;
  const rotate = async (form) => saved(await api.post(`/v1/admin/keys/${open.key.id}/rotate`, { overlap_seconds: Number(form.get("overlap")) }));
  const revoke = () => api.delete(`/v1/admin/keys/${open.key.id}`);
  return html`<${View} title="Keys" tools=${tools}>
    <${PagedTable} label="Keys" pages=${pages} columns=${COLUMNS} empty=${query.user ? "This user has no key." : html`No key yet. New key makes one for a <a href=${to("users")}>user</a>.`} row=${(key) => [
      html`<span title=${key.name}>${key.name || "unnamed"}</span><div class="mono small">${key.id}</div>`,
      html`<a href=${to("users", { user: key.user })} title=${key.user}>${key.user}</a>`,
      html`${keyState(key)}${key.expires_at && !key.revoked_at && html`<div class="small">until <${Instant} at=${key.expires_at} /></div>`}`,
      key.scopes.join(", "),
      key.models ? html`<span title=${key.models.join("\n")}>${key.models.length} of them</span>` : "as planned",
      html`<${LimitsLine} limits=${key.limits} />`,
      html`<${Instant} at=${key.last_used_at} />`,
      !key.revoked_at && html`<div class="btn-list flex-nowrap justify-content-end">
        ${["Edit", "Rotate", "Revoke"].map((what) => html`<button key=${what} class="btn btn-sm" aria-label=${`${what} ${key.name || key.id}`}
          onClick=${() => setOpen({ what: what === "Edit" ? "form" : what, key })}>${what}</button>`)}
      </div>`,
    ]} />
    ${open?.what === "form" && html`<${KeyForm} api=${api} of=${open.key} user=${query.user} onClose=${close} onSaved=${saved} />`}
    ${open?.what === "Rotate" && html`<${Confirm} title=${`Rotate ${open.key.name || open.key.id}?`} verb="Make new secret" act=${rotate} onClose=${close}>
      <p>The key gets a new secret, shown once. The present one is good for as long as you choose; an older one ends now.</p>
      ${which(open.key)}
      <label class="form-label" for="overlap">Overlap</label>
      <select id="overlap" name="overlap" class="form-select"><${Options} choices=${OVERLAPS} value="86400" /></select>
    </${Confirm}>`}
    ${open?.what === "Revoke" && html`<${Confirm} title=${`Revoke ${open.key.name || open.key.id}?`} verb="Revoke key" danger act=${revoke} onClose=${close}>
      <p>The key and all client tokens made with it end at once and for good. Jobs already accepted run on.</p>
      ${which(open.key)}
    </${Confirm}>`}
    ${made && html`<${KeyCreated} made=${made} onClose=${() => setMade(null)} />`}
  </${View}>`;
}

/** Names are not unique: every user may have a `ci`. */
const which = ({ id, user }) => html`<p class="mono small mb-2">${id} · ${user}</p>`;

export function keyState(key) {
  if (key.revoked_at) return "revoked";
  if (key.expires_at && new Date(key.expires_at) < new Date()) return "expired";
  if (key.user_disabled) return "user disabled";
  return "active";
}

/** Shows the secret this once; it is in no list, no address and no storage. */
export function KeyCreated({ made, onClose }) {
  return html`<${Dialog} title="The new key" onClose=${onClose}>
    <p>Copy it now: it cannot be shown again.</p>
    <div class="d-flex gap-2 mb-3">
      <input class="form-control secret" readonly aria-label="Secret of the key" value=${made.key} onFocus=${(event) => event.target.select()} />
      <${Copy} text=${made.key} />
    </div>
    <p class="small mb-0">For ${made.user}: <span class="mono">${made.id}</span></p>
  </${Dialog}>`;
}

export function KeyForm({ api, of, user, onClose, onSaved }) {
  const { fields, set, edited } = useFields({
    user: of?.user ?? user ?? "", name: of?.name ?? "", scopes: of?.scopes ?? USUAL, models: of?.models ?? null,
    limits: of?.limits ?? {}, plan: of?.plan ?? "", expires_at: local(of?.expires_at),
  });
  const toggle = (scope) => {
    const had = fields.scopes.includes(scope);
    set("scopes")(had ? fields.scopes.filter((each) => each !== scope) : [...fields.scopes, scope]);
    if (scope === "act_as") set("plan")(had ? "" : (of?.plan ?? "")); // the plan of the users that the key creates
  };
  const save = async () => {
    const { user: owner, ...rest } = fields;
    const body = {
      ...rest,
      plan: rest.plan || null,
      limits: limitsBody(rest.limits, of?.limits),
      expires_at: instant(rest.expires_at),
    };
    onSaved(of ? await api.patch(`/v1/admin/keys/${of.id}`, edited(body)) : await api.post("/v1/admin/keys", { user: owner.trim(), ...body }));
  };
  return html`<${FormDialog} title=${of ? `Edit ${of.name || of.id}` : "New key"} verb=${of ? "Save" : "Make key"} act=${save} onClose=${onClose}>${(errorsAt) => html`
    ${!of && html`<${TextField} id="key-user" label="User" errors=${errorsAt("/user")} value=${fields.user} onChange=${set("user")} />`}
    <${TextField} id="key-name" label="Name" hint="What it is for." errors=${errorsAt("/name")} value=${fields.name} onChange=${set("name")} />
    <fieldset class="mb-3">
      <legend class="form-label">Scopes</legend>
      ${SCOPES.map(([scope, words]) => html`<label class="form-check mb-1" key=${scope}>
        <input type="checkbox" class="form-check-input" checked=${fields.scopes.includes(scope)} onChange=${() => toggle(scope)} />
        <span class="form-check-label">${scope}<span class="small"> · ${words}</span></span>
      </label>`)}
      <${Errors} id="key-scopes-errors" errors=${errorsAt("/scopes")} />
    </fieldset>
    ${fields.scopes.includes("act_as") && html`<${TextField} id="key-plan" label="Plan of the users it creates" hint="Empty: the default plan." errors=${errorsAt("/plan")} value=${fields.plan} onChange=${set("plan")} />`}
    <${LinesField} id="key-models" label="Models" hint="One a line; empty allows whatever the plan allows." errors=${errorsAt("/models")} value=${fields.models} onChange=${set("models")} />
    <${TextField} id="key-expires" label="Expires" type="datetime-local" hint="Empty: never." errors=${errorsAt("/expires_at")} value=${fields.expires_at} onChange=${set("expires_at")} />
    <${LimitsEditor} legend="Own limits" hint="In addition to the user's; the tightest counts." value=${fields.limits} onChange=${set("limits")} errorsAt=${errorsAt} />`}
  </${FormDialog}>`;
}

/** An instant as a date field wants it: in the reader's own time, without a zone. */
function local(at) {
  if (!at) return "";
  const date = new Date(at);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
