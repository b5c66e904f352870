// The playground: sign in, choose a model, fill in its form, watch the job, see the video.

import { Session } from "../shared/api.js";
import { Gate, LimitBar, ProblemNote, ThemeSwitch, UNFINISHED, html, render, useEffect, useRef, useState } from "../shared/view.js";
import { carried, fieldsOf } from "./fields.js";
import { ModelForm } from "./form.js";
import { History } from "./history.js";
import { JobCard } from "./job.js";
import { ModelPicker } from "./models.js";

const FIRST_MODEL = "bytedance/seedance-1-0/pro/image-to-video";

const AGAIN_MS = 3000;

const BLANK = { input: {}, choice: 0 }; // what a form begins with, and which choice has filled it in

let begun = null; // what the form holds and for whom, in case the sign-in ends

function Playground({ api, onLeave }) {
  const [me, setMe] = useState(null);
  const [models, setModels] = useState(null);
  const [model, setModel] = useState(null);
  const [start, setStart] = useState(BLANK);
  const [job, setJob] = useState(null);
  const [latest, setLatest] = useState(null); // the job in view, as it is by now
  const [problem, setProblem] = useState(null);
  const [rounds, setRounds] = useState(0); // counts jobs that came, ended or met a limit, since limits and history have moved

  const typed = (chosen) => (model ? carried(begun.input, fieldsOf(model.input_schema), fieldsOf(chosen.input_schema)) : {});
  const choices = useRef(0);
  const choose = async (modelId, input) => {
    const choice = ++choices.current;
    const isLast = () => choice === choices.current; // answers may come out of order
    if (!input && modelId === model?.model_id) return setProblem(null); // its form keeps what it holds
    try {
      const chosen = await api.get(`/v1/models/${modelId}`);
      if (!isLast()) return;
      setModel(chosen);
      // Another one of the same fields goes on in the form as it is.
      if (input || chosen.schema_hash !== model?.schema_hash) setStart({ input: input || typed(chosen), choice });
      setProblem(null);
      return true;
    } catch (error) {
      if (isLast()) setProblem(error);
    }
  };
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    let told = null;
    const load = async () => {
      try {
        const { models: found } = await api.get("/v1/models?limit=500", { signal: stop.signal });
        setModels(found);
        setProblem((shown) => (shown === told ? null : shown));
      } catch (error) {
        if (error.name === "AbortError") return;
        setProblem((told = error));
        if (!error.status || error.status >= 500) timer = setTimeout(load, AGAIN_MS); // without them nobody can do anything
      }
    };
    load();
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, []);
  useEffect(() => {
    const stop = new AbortController();
    api.get("/v1/me", { signal: stop.signal }).then(setMe, (error) => error.name === "AbortError" || setProblem(error));
    return () => stop.abort(); // its limits would be out of date
  }, [rounds]);
  // After a reload a running job must not look lost, or it would be made again.
  useEffect(() => {
    const take = ({ data: [newest] }) => newest && setJob((shown) => shown ?? newest);
    api.get(`/v1/jobs?limit=1&status=${UNFINISHED}`).then(take, () => {}); // the history says what is wrong
  }, []);
  const left = useRef(begun).current; // left by a sign-in that ended
  const isKnown = Boolean(models && (me || !left));
  useEffect(() => {
    if (!isKnown) return;
    const first = models.find((each) => each.model_id === FIRST_MODEL) || models[0];
    if (left && left.user === me.user) choose(left.model, left.input);
    else if (first) choose(first.model_id);
  }, [isKnown]);

  const again = async (earlier) => {
    scrollTo(0, 0);
    if (await choose(earlier.model, earlier.input)) goOn("form");
  };
  const show = (shown) => {
    setJob(shown);
    // On a phone it is far below the form.
    requestAnimationFrame(() => document.getElementById("stage").scrollIntoView({ block: "nearest" }));
  };
  const open = (earlier) => {
    show(earlier);
    goOn("#stage > *");
  };
  const moved = () => setRounds((n) => n + 1);
  const leave = () => {
    begun = null;
    onLeave();
  };
  return html`
    <${TopBar} who=${me && `${me.user}${me.plan ? ` · ${me.plan}` : ""}`} onLeave=${leave} />
    <main class="container-xl py-4">
      <h1 class="visually-hidden">Playground</h1>
      <${ProblemNote} problem=${problem} />
      <div class="row row-cards">
        <div class="col-lg-5">
          <${ModelPicker} models=${models} model=${model} failed=${problem} onChoose=${choose} />
          ${model && html`<${ModelForm} key=${model.schema_hash + start.choice} api=${api} model=${model} start=${start.input} limits=${me?.limits}
            onAsked=${(asked) => { begun = { user: me?.user, ...asked }; }} onSubmitted=${(submitted) => { show(submitted); moved(); }} onLimited=${moved} />`}
        </div>
        <div class="col-lg-7">
          <div id="stage"><${JobCard} key=${job?.id} api=${api} job=${job} onChange=${setLatest} onEnded=${moved} onAgain=${again} /></div>
          ${me && me.limits.length > 0 && html`<section class="card mt-4"><div class="card-body">
            <h2 class="card-title">Your limits</h2>
            ${me.limits.map((limit) => html`<${LimitBar} key=${limit.name} limit=${limit} />`)}
          </div></section>`}
        </div>
      </div>
      <${History} api=${api} rounds=${rounds} latest=${latest} onOpen=${open} onAgain=${again} onMoved=${moved} />
    </main>`;
}

/** Takes the keyboard to what was opened, once it is drawn. */
const goOn = (selector) => requestAnimationFrame(() => document.querySelector(selector)?.focus({ preventScroll: true }));

function TopBar({ who, onLeave }) {
  return html`<header class="navbar navbar-expand-md d-print-none">
    <div class="container-xl">
      <span class="navbar-brand"><img src="assets/shared/icon.svg" width="24" height="24" alt="" />Playground</span>
      <div class="ms-auto d-flex align-items-center gap-2">
        <span class="who small text-truncate d-none d-sm-block" title=${who}>${who}</span>
        <${ThemeSwitch} />
        <button type="button" class="btn btn-sm" onClick=${onLeave}>Sign out</button>
      </div>
    </div>
  </header>`;
}

// A file dropped beside its field would otherwise be opened, in some browsers in place of this page.
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
}

render(
  html`<${Gate} session=${new Session("playground-token")} probe="/v1/me" Inside=${Playground} title="Make a video"
    label="Key or client token" hint="It stays in this tab and is forgotten with it." />`,
  document.getElementById("app"),
);
