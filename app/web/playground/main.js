// The playground: sign in, choose a model, fill in its form, watch the job, see the video.

import { Api, Session } from "../shared/api.js";
import { LimitBar, SignIn, ThemeSwitch, html, render, useEffect, useState } from "../shared/view.js";

const session = new Session("playground-token");

function App() {
  const [signedIn, setSignedIn] = useState(Boolean(session.token));
  const api = new Api(session, { onSignedOut: () => leave() });
  const leave = () => {
    session.signOut();
    setSignedIn(false);
  };
  if (signedIn) return html`<${Playground} api=${api} onLeave=${leave} />`;
  const check = async (token) => {
    session.signIn(token);
    await api.get("/v1/me");
  };
  return html`<${SignIn} title="Make a video" label="Key or client token" check=${check}
    hint="It stays in this tab and is forgotten with it." onDone=${() => setSignedIn(true)} />`;
}

function Playground({ api, onLeave }) {
  const [me, setMe] = useState(null);
  useEffect(() => {
    api.get("/v1/me").then(setMe);
  }, []);
  return html`<header class="navbar"><div class="container-xl">
      <span class="navbar-brand">Playground</span>
      <div class="ms-auto"><${ThemeSwitch} />
      <button class="btn btn-sm" onClick=${onLeave}>Sign out</button></div>
    </div></header>
    <main class="container-xl">${me?.limits.map((limit) => html`<${LimitBar} limit=${limit} />`)}</main>`;
}

render(html`<${App} />`, document.getElementById("app"));
