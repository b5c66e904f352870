// Plans: sets of limits that users share.

import { html, useState } from "../shared/view.js";
import { LimitsEditor, LimitsLine, limitsBody } from "./limits.js";
import { usePages } from "./load.js";
import { CheckField, Confirm, FormDialog, LinesField, PagedTable, TextField, View, useFields } from "./parts.js";
import { to } from "./route.js";

const COLUMNS = [["Plan", "long"], ["Limits", "long"], ["Models", "long"], ["Days in"], ["Users"], ["", "acts"]];

export function Plans({ api }) {
  const pages = usePages(api, "/v1/admin/plans?limit=100");
  const [open, setOpen] = useState(null);
  const close = () => {
    setOpen(null);
    pages.reload({ quiet: true }); // done or refused, it tells what others did meanwhile
  };
  const tools = html`<button class="btn btn-sm btn-primary" onClick=${() => setOpen({ form: true })}>New plan</button>`;
  return html`<${View} title="Plans" tools=${tools}>
    <${PagedTable} label="Plans" pages=${pages} columns=${COLUMNS} keyOf=${(plan) => plan.name}
      empty="No plans: nothing is limited." row=${(plan) => [
        html`<strong class="fw-medium">${plan.name}</strong>${plan.default && html` <span class="badge">default</span>`}`,
        html`<${LimitsLine} limits=${plan.limits} />`,
        plan.models ? plan.models.join(", ") : "all",
        plan.timezone,
        html`<a href=${to("users", { plan: plan.name })}>users</a>`,
        html`<div class="btn-list flex-nowrap justify-content-end">
          <button class="btn btn-sm" aria-label=${`Edit ${plan.name}`} onClick=${() => setOpen({ form: true, plan })}>Edit</button>
          <button class="btn btn-sm" aria-label=${`Delete ${plan.name}`} onClick=${() => setOpen({ gone: plan })}>Delete</button>
        </div>`,
      ]} />
    ${open?.form && html`<${PlanForm} api=${api} plan=${open.plan} onClose=${close} />`}
    ${open?.gone && html`<${Confirm} title=${`Delete ${open.gone.name}?`} verb="Delete plan" danger onClose=${close}
      act=${() => api.delete(pathOf(open.gone))}>
      <p>Only a plan that nobody is on can be deleted.</p>
    </${Confirm}>`}
  </${View}>`;
}

const pathOf = (plan) => `/v1/admin/plans/${encodeURIComponent(plan.name)}`;

function PlanForm({ api, plan, onClose }) {
  const { fields, set, edited } = useFields({
    name: plan?.name ?? "", timezone: plan?.timezone ?? "UTC", default: plan?.default ?? false, models: plan?.models ?? null, limits: plan?.limits ?? {},
  });
  const save = async () => {
    const { name, ...rest } = fields;
    const body = { ...rest, timezone: rest.timezone.trim(), limits: limitsBody(rest.limits, plan?.limits) };
    if (plan) await api.patch(pathOf(plan), edited(body));
    else await api.post("/v1/admin/plans", { name: name.trim(), ...body });
  };
  return html`<${FormDialog} title=${plan ? `Edit ${plan.name}` : "New plan"} verb=${plan ? "Save" : "Make plan"} act=${save} onClose=${onClose}>${(errorsAt) => html`
    ${!plan && html`<${TextField} id="plan-name" label="Name" hint="1 to 64 of letters, digits and . _ -" errors=${errorsAt("/name")} value=${fields.name} onChange=${set("name")} />`}
    <${LimitsEditor} legend="Limits" value=${fields.limits} onChange=${set("limits")} errorsAt=${errorsAt} />
    <${TextField} id="plan-zone" label="Time zone" hint="Its days and months are those of this zone, like Europe/Berlin." errors=${errorsAt("/timezone")} value=${fields.timezone} onChange=${set("timezone")} />
    <${LinesField} id="plan-models" label="Models" hint="One a line; empty allows every model." errors=${errorsAt("/models")} value=${fields.models} onChange=${set("models")} />
    <${CheckField} id="plan-default" label="Default plan" hint="Serves users that have no plan of their own." checked=${fields.default} onChange=${set("default")} />`}
  </${FormDialog}>`;
}
