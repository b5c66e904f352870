// Users: who they are, what plan they are on, and how their limits stand.

import { Instant, LimitBar, ProblemNote, html, limitAmount, useState } from "../shared/view.js";
import { KeyCreated, KeyForm, keyState } from "./keys.js";
import { LimitsEditor, LimitsLine, limitsBody } from "./limits.js";
import { usePages, useRead } from "./load.js";
import { CheckField, Confirm, Dialog, Facts, FormDialog, Options, PagedTable, SelectField, TextField, View, useFields } from "./parts.js";
import { close, queryOf, replace, to } from "./route.js";

const COLUMNS = [["User", "long"], ["Name", "long"], ["Plan"], ["Own limits", "long"], ["State"], ["Created", "tight"]];
const REFRESH_MS = 5000;

export function Users({ api, query }) {
  const pages = usePages(api, `/v1/admin/users?${queryOf({ limit: 100, plan: query.plan })}`);
  const plans = usePages(api, "/v1/admin/plans?limit=100", { all: true });
  const [making, setMaking] = useState(false);
  const names = plans.rows.map((plan) => plan.name);
  const { user, ...filters } = query;
  const find = (event) => {
    event.preventDefault();
    const id = new FormData(event.target).get("id").trim();
    if (id) replace("users", { ...filters, user: id });
  };
  const tools = html`
    <form class="d-flex gap-1" role="search" onSubmit=${find}>
      <input name="id" class="form-control form-control-sm" placeholder="Open by id" aria-label="User id" autocomplete="off" />
      <button class="btn btn-sm">Open</button>
    </form>
    <select class="form-select form-select-sm w-auto" aria-label="Plan" onChange=${(event) => replace("users", { plan: event.target.value })}>
      <${Options} choices=${[["", "all plans"], ...names]} value=${query.plan} />
    </select>
    <button class="btn btn-sm btn-primary" onClick=${() => setMaking(true)}>New user</button>`;
  return html`<${View} title="Users" tools=${tools}>
    <${PagedTable} label="Users" pages=${pages} columns=${COLUMNS} empty=${query.plan ? "Nobody is on this plan." : "No user yet. New user makes one."} row=${(each) => [
      html`<a href=${to("users", { ...filters, user: each.id })}>${each.id}</a>`,
      each.name || "–",
      each.plan || "default",
      html`<${LimitsLine} limits=${each.limits} />`,
      each.disabled ? html`<span class="bad">disabled</span>` : "active",
      html`<${Instant} at=${each.created_at} />`,
    ]} />
    ${making && html`<${UserForm} api=${api} plans=${names} onClose=${() => setMaking(false)} onSaved=${() => pages.reload()} />`}
    ${user && html`<${UserDrawer} key=${user} api=${api} id=${user} plans=${names} onClose=${() => close("users", filters)} onChanged=${() => pages.reload({ quiet: true })} />`}
  </${View}>`;
}

const escaped = (id) => id.split("/").map(encodeURIComponent).join("/");
const pathOf = (id) => `/v1/admin/users/${escaped(id)}`;

function UserDrawer({ api, id, plans, onClose, onChanged }) {
  const user = useRead(api, pathOf(id), { every: REFRESH_MS });
  const standings = useRead(api, `/v1/admin/user-limits/${escaped(id)}`, { every: REFRESH_MS });
  const keys = useRead(api, `/v1/admin/keys?${queryOf({ user: id, limit: 50 })}`, { every: REFRESH_MS });
  const [open, setOpen] = useState(null);
  const [secret, setSecret] = useState(null);
  const close = () => setOpen(null);
  const saved = () => {
    user.reload();
    standings.reload();
    keys.reload();
    onChanged();
  };
  const erase = async () => {
    await api.delete(pathOf(id));
    onChanged();
    setTimeout(onClose);
  };
  const footer = user.data && html`
    <button class="btn btn-sm" onClick=${() => setOpen("edit")}>Edit</button>
    <button class="btn btn-sm" onClick=${() => setOpen("key")}>New key</button>
    <button class="btn btn-sm btn-outline-danger ms-auto" onClick=${() => setOpen("delete")}>Delete</button>`;
  return html`<${Dialog} drawer title=${id} onClose=${onClose} footer=${footer}>
    <${ProblemNote} problem=${user.problem || standings.problem || keys.problem} />
    ${user.data && html`<${Facts} facts=${[
      ["Name", user.data.name],
      ["Plan", user.data.plan ? html`<a href=${to("plans")}>${user.data.plan}</a>` : "default"],
      ["State", user.data.disabled ? html`<span class="bad">disabled</span>` : "active"],
      ["Time zone", standings.data?.timezone],
      ["Created", html`<${Instant} at=${user.data.created_at} />`],
      ["Elsewhere", html`<a href=${to("jobs", { user: id })}>jobs</a>, <a href=${to("usage", { user: id })}>usage</a>`],
    ]} />`}
    <h3>Limits now</h3>
    ${standings.data && (standings.data.limits.length
      ? standings.data.limits.map((limit) => html`<div key=${limit.name}>
          <${LimitBar} limit=${limit} />
          <div class="small limit-note">${noteOf(limit)}${limit.resets_at && html`, resets <${Instant} at=${limit.resets_at} />`}</div>
        </div>`)
      : html`<p>Nothing is limited: neither the plan nor the user sets a limit.</p>`)}
    <h3>Keys</h3>
    ${keys.data && (keys.data.data.length
      ? html`<ul class="list-unstyled mb-0">${keys.data.data.map((key) => html`<li key=${key.id} class="text-break"><span class="mono">${key.id}</span> ${key.name} · ${keyState(key)}</li>`)}</ul>
          ${keys.data.next_cursor && html`<div class="small">and more</div>`}
          <a class="small" href=${to("keys", { user: id })}>Manage keys</a>`
      : html`<p>No key.</p>`)}
    ${open === "edit" && html`<${UserForm} api=${api} user=${user.data} plans=${plans} onClose=${close} onSaved=${saved} />`}
    ${open === "key" && html`<${KeyForm} api=${api} user=${id} onClose=${close} onSaved=${(key) => { keys.reload(); setSecret(key); }} />`}
    ${secret && html`<${KeyCreated} made=${secret} onClose=${() => setSecret(null)} />`}
    ${open === "delete" && html`<${Confirm} title=${`Delete ${id}?`} verb="Delete user" danger act=${erase} onClose=${close}>
      <p>Erases the user's jobs and keys, and the users that it acts for with theirs. Ledger and audit log stay. This cannot be undone.</p>
    </${Confirm}>`}
  </${Dialog}>`;
}

/** What is used and held; for a shadow limit also by how much it would have refused. */
function noteOf(limit) {
  const amount = (each) => limitAmount(limit, each);
  const over = Number(limit.used) + Number(limit.held) - Number(limit.limit);
  const shadow = limit.mode === "shadow" && over > 0 ? `, ${amount(Number(over.toFixed(6)))} over what it would have let through` : "";
  return `${amount(limit.used)} used, ${amount(limit.held)} held${shadow}`;
}

function UserForm({ api, user, plans, onClose, onSaved }) {
  const { fields, set, edited } = useFields({
    id: user?.id ?? "", name: user?.name ?? "", plan: user?.plan ?? "", limits: user?.limits ?? {}, disabled: user?.disabled ?? false,
  });
  const save = async () => {
    const { id, ...rest } = fields;
    const body = { ...rest, name: rest.name || null, plan: rest.plan || null, limits: limitsBody(rest.limits, user?.limits) };
    if (user) await api.patch(pathOf(user.id), edited(body));
    else await api.post("/v1/admin/users", { id: id.trim(), ...body });
    onSaved();
  };
  return html`<${FormDialog} title=${user ? `Edit ${user.id}` : "New user"} verb=${user ? "Save" : "Make user"} act=${save} onClose=${onClose}>${(errorsAt) => html`
    ${!user && html`<${TextField} id="user-id" label="Id" hint="1 to 128 of letters, digits and . _ @ : -" errors=${errorsAt("/id")} value=${fields.id} onChange=${set("id")} />`}
    <${TextField} id="user-name" label="Name" errors=${errorsAt("/name")} value=${fields.name} onChange=${set("name")} />
    <${SelectField} id="user-plan" label="Plan" errors=${errorsAt("/plan")} value=${fields.plan} choices=${[["", "the default plan"], ...plans]} onChange=${set("plan")} />
    <${CheckField} id="user-disabled" label="Disabled" hint="All keys of the user are refused." checked=${fields.disabled} onChange=${set("disabled")} />
    <${LimitsEditor} legend="Own limits" hint="Each stands in place of the plan's." value=${fields.limits} onChange=${set("limits")} errorsAt=${errorsAt} />`}
  </${FormDialog}>`;
}
