// The operators' console: who uses what, what is stuck, what it costs.

import { Api, Session } from "../shared/api.js";
import { SignIn, ThemeSwitch, html, render, useState } from "../shared/view.js";

const session = new Session("console-token");

function App() {
  const [signedIn, setSignedIn] = useState(Boolean(session.token));
  const leave = () => {
    session.signOut();
    setSignedIn(false);
  };
  const api = new Api(session, { onSignedOut: leave });
  if (signedIn) return html`<${Console} api=${api} onLeave=${leave} />`;
  const check = async (token) => {
    session.signIn(token);
    await api.get("/v1/admin/dispatch");
  };
  return html`<${SignIn} title="Console" label="Admin token" check=${check}
    hint="One of GATEWAY_ADMIN_TOKEN. It stays in this tab and is forgotten with it."
    onDone=${() => setSignedIn(true)} />`;
}

function Console({ onLeave }) {
  return html`<header class="navbar"><div class="container-xl">
    <span class="navbar-brand">Console</span>
    <div class="ms-auto"><${ThemeSwitch} />
    <button class="btn btn-sm" onClick=${onLeave}>Sign out</button></div>
  </div></header>`;
}

render(html`<${App} />`, document.getElementById("app"));
