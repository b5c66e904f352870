// Choosing a model: a dialog with a search, so that a hundred of them fit on a phone.

import { counted, html, money, useRef, useState } from "../shared/view.js";

// The catalogue has prices as numbers: show at least two decimals, like money everywhere.
const amount = (usd) => usd.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 6, useGrouping: false });

const price = (model) =>
  model.base_price_usd === null ? "price unknown" : `${money(amount(model.base_price_usd))} per ${model.price_unit}`;

export function ModelPicker({ models, model, failed, onChoose }) {
  const dialog = useRef(null);
  const [search, setSearch] = useState("");
  const words = search.toLowerCase().split(/\s+/);
  const found = (models || []).filter((each) => {
    const text = `${each.model_id} ${each.display_name} ${each.output_kind}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const none = models?.length === 0 ? "No model is open to you" : models && failed ? "Choose a model" : "Loading models";
  const choose = (modelId) => {
    dialog.current.close();
    setSearch("");
    onChoose(modelId);
  };
  return html`
    <button type="button" class="card card-link w-100 p-0 text-start mb-3" onClick=${() => dialog.current.showModal()}
      aria-haspopup="dialog" disabled=${!models?.length}>
      <span class="card-body d-flex align-items-center py-3">
        <span class="flex-fill">
          <span class="fw-bold d-block">${model ? model.display_name : none}</span>
          <span class="small d-block">${model && html`${model.model_id} · ${price(model)}`}</span>
        </span>
        <span class="btn btn-sm ms-2 flex-shrink-0" aria-hidden="true">Change</span>
      </span>
    </button>
    <dialog ref=${dialog} class="card chooser" aria-label="Choose a model">
      <div class="card-header d-flex gap-2">
        <input type="search" class="form-control" placeholder=${`Search ${counted((models || []).length, "model")}`} aria-label="Search models"
          value=${search} onInput=${(event) => setSearch(event.target.value)} autofocus />
        <button type="button" class="btn" onClick=${() => dialog.current.close()}>Close</button>
      </div>
      <div class="list-group list-group-flush chooser-list" tabindex="0" role="group" aria-label="Models">
        ${found.map((each) => html`<button type="button" key=${each.model_id}
          class="list-group-item list-group-item-action ${each.model_id === model?.model_id ? "active" : ""}"
          onClick=${() => choose(each.model_id)}>
          <span class="d-block">${each.display_name}</span>
          <span class="small">${each.model_id} · ${price(each)}</span>
        </button>`)}
        ${!found.length && html`<div class="list-group-item">No model matches “${search}”.</div>`}
      </div>
    </dialog>`;
}
