// The operators' console: who uses what, what is stuck, what it costs.

import { Session } from "../shared/api.js";
import { Gate, ThemeSwitch, html, render, useEffect, useRef } from "../shared/view.js";
import { AuditLog } from "./audit.js";
import { Deliveries } from "./deliveries.js";
import { Jobs } from "./jobs.js";
import { Keys } from "./keys.js";
import { Overview } from "./overview.js";
import { Plans } from "./plans.js";
import { Prices } from "./prices.js";
import { to, useRoute } from "./route.js";
import { ShadowFindings } from "./shadow.js";
import { Usage } from "./usage.js";
import { Users } from "./users.js";

const VIEWS = [
  ["overview", "Overview", Overview],
  ["jobs", "Jobs", Jobs],
  ["users", "Users", Users],
  ["plans", "Plans", Plans],
  ["keys", "Keys", Keys],
  ["usage", "Usage", Usage],
  ["prices", "Prices", Prices],
  ["shadow", "Shadow findings", ShadowFindings],
  ["deliveries", "Webhooks", Deliveries],
  ["audit", "Audit log", AuditLog],
];

function Console({ api, onLeave }) {
  const { path, query } = useRoute();
  const [name, title, Shown] = VIEWS.find(([each]) => each === path) || VIEWS[0];
  const strip = useRef(null);
  useEffect(() => {
    document.title = `${title} · RunComfy gateway`;
    strip.current.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [title]);
  return html`<div class="console">
    <header class="console-top">
      <img src="assets/shared/icon.svg" width="24" height="24" alt="" />
      <span class="fw-bold flex-fill">Console</span>
      <${ThemeSwitch} />
      <button class="btn btn-sm" onClick=${onLeave}>Sign out</button>
    </header>
    <nav class="console-nav" aria-label="Views" ref=${strip}>
      ${VIEWS.map(([each, word]) => html`<a key=${each} href=${to(each)} aria-current=${each === name ? "page" : undefined}>${word}</a>`)}
    </nav>
    <main class="console-main" key=${name}><${Shown} api=${api} query=${query} /></main>
  </div>`;
}

render(
  html`<${Gate} session=${new Session("console-token")} probe="/v1/admin/dispatch" Inside=${Console} title="Console"
    missing="This gateway has no operators: set GATEWAY_ADMIN_TOKEN and start it again."
    label="Admin token" hint="One of GATEWAY_ADMIN_TOKEN. It stays in this tab and is forgotten with it." />`,
  document.getElementById("app"),
);
