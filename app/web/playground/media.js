// Fields for images, videos and sounds: drop, paste, choose or name by URL; looked at before upload.

import { here } from "../shared/api.js";
import { html, spaced, useEffect, useRef, useState } from "../shared/view.js";

const MB = 2 ** 20; // as the gateway counts them
const PAUSE_MS = 700; // in typing: half an address is the address of something else

/** Returns "image", "video" or "audio" for a field that holds such a file, else nothing. */
export function mediaKind(name, field) {
  const told = /^(image|video|audio)_uris?$/.exec(field.format || "");
  if (told) return told[1];
  if (field.enum || !["string", "array"].includes(field.type)) return null;
  if (field.validations?.some((rule) => /pixels|width\/height/.test(rule.validation_rule))) return "image";
  const named = /(image|img|photo|frame|mask|video|clip|audio)s?(_(start|end|first|last|head|tail|ref|reference))?(_ur[li]s?)?$/.exec(name);
  if (!named) return null;
  return { video: "video", clip: "video", audio: "audio" }[named[1]] || "image";
}

export function MediaField({ api, ties, field, kind, value, label, onChange, onBusy }) {
  const [preview, setPreview] = useState(null); // of which file it is, and where it can be seen
  const [state, setState] = useState({}); // of the upload: under way, or its error
  const [typed, setTyped] = useState(value); // what the field held when typing paused
  const [hovered, setHovered] = useState(false);
  const upload = useRef(null);
  const picker = useRef(null);
  useEffect(() => () => upload.current?.abort(), []);
  useEffect(() => () => preview && URL.revokeObjectURL(preview.source), [preview]);

  useEffect(() => {
    if (preview?.of === value || !/^file_/.test(value || "")) return undefined;
    const stop = new AbortController();
    const show = (file) => setPreview({ of: value, source: here(file.urls.content) });
    api.get(`/v1/files/${value}`, { signal: stop.signal }).then(show, () => {}); // one that is gone has no picture
    return () => stop.abort();
  }, [value]);

  useEffect(() => {
    const timer = setTimeout(() => setTyped(value), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [value]);

  const take = async (file) => {
    if (!file) return;
    upload.current?.abort();
    const { signal } = (upload.current = new AbortController());
    const local = URL.createObjectURL(file);
    setState({ busy: true, local });
    onBusy(1);
    try {
      const flaw = await flawOf(file, local, kind, field.validations || []);
      if (flaw) throw new Error(flaw);
      const kept = await api.post("/v1/files", file, { signal, headers: { "Content-Type": file.type || "application/octet-stream" } });
      setPreview({ of: kept.id, source: local });
      onChange(kept.id);
      setState({});
    } catch (error) {
      URL.revokeObjectURL(local);
      if (!signal.aborted) setState({ error: error.message });
    } finally {
      onBusy(-1);
    }
  };
  const chosen = (event) => {
    take(event.target.files[0]);
    event.target.value = ""; // so that the same file may be chosen again
  };
  const type = (event) => {
    upload.current?.abort();
    setState({});
    onChange(event.target.value.trim() || undefined);
  };
  const drop = (event) => {
    event.preventDefault();
    setHovered(false);
    take(event.dataTransfer.files[0]);
  };
  const paste = (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    take(file);
  };
  const hover = (event) => {
    event.preventDefault();
    setHovered(true);
  };
  const named = typed === value && /^(https|data):/.test(value || "") ? value : null; // the page's policy allows no others
  const source = state.local || (preview && preview.of === value ? preview.source : named);
  return html`<div class="media-field ${hovered ? "hover" : ""}" onDrop=${drop} onDragOver=${hover}
    onDragLeave=${() => setHovered(false)} onPaste=${paste}>
    ${source && html`<${Preview} kind=${kind} source=${source} label=${label} />`}
    <div class="d-flex gap-2">
      <input ...${ties} type="text" inputmode="url" class="form-control" aria-label=${`${label}: URL`}
        placeholder=${`URL of the ${kind}, or drop or paste one here`} value=${value ?? ""} onInput=${type} onBlur=${() => setTyped(value)} />
      <button type="button" class="btn" disabled=${state.busy} onClick=${() => picker.current.click()}>
        ${state.busy ? "Uploading" : "Upload"}
      </button>
      <input ref=${picker} type="file" accept=${`${kind}/*`} hidden aria-label=${`${label}: file`}
        onChange=${chosen} />
    </div>
    ${state.error && html`<div class="field-error" role="alert">${state.error}</div>`}
  </div>`;
}

export function MediaList({ value, field, label, ties, onChange, ...rest }) {
  const [rows, setRows] = useState(value || []);
  const most = field.maxItems ?? 10;
  const latest = useRef(rows); // an upload may end long after it began
  const put = (index, item) => {
    const next = latest.current.slice();
    next[index] = item ?? ""; // a row that is emptied stays: the next one must not jump under the cursor
    latest.current = next;
    setRows(next);
    onChange(next.filter(Boolean));
  };
  return html`${[...rows, ...(rows.length < most ? [""] : [])].map((item, index) => html`<${MediaField} key=${index} ...${rest}
    ties=${index ? { ...ties, id: `${ties.id}-${index}` } : ties} field=${field} label=${`${label} ${index + 1}`} value=${item}
    onChange=${(changed) => put(index, changed)} />`)}`;
}

function Preview({ kind, source, label }) {
  if (kind === "image") return html`<img class="media-preview" src=${source} alt=${label} />`;
  if (kind === "video") return html`<video class="media-preview" src=${source} muted controls aria-label=${label}></video>`;
  return html`<audio class="w-100 mb-2" src=${source} controls aria-label=${label}></audio>`;
}

/** Gives the schema's own message for the first rule that a file breaks; edges are fine. */
async function flawOf(file, local, kind, rules) {
  if (file.type && !file.type.startsWith(`${kind}/`)) return `This is ${file.type}, and the field wants ${articled(kind)}.`;
  const size = kind === "image" ? await sizeOf(local) : null;
  const facts = { file_size_mb: file.size / MB };
  if (size) Object.assign(facts, { width_pixels: size.width, height_pixels: size.height, "width/height": size.width / size.height });
  for (const { validation_rule: rule, validation_value: bound, validation_error: message } of rules) {
    const fact = facts[rule.slice(0, -1)];
    if (fact === undefined) continue;
    const most = rule.endsWith("<");
    if (most ? fact > bound : fact < bound) return message || `${spaced(rule.slice(0, -1))} must be ${most ? "at most" : "at least"} ${bound}.`;
  }
  return null;
}

const articled = (kind) => (kind === "image" || kind === "audio" ? `an ${kind}` : `a ${kind}`);

async function sizeOf(local) {
  const image = new Image();
  image.src = local;
  try {
    await image.decode();
  } catch {
    return null; // a format that this browser does not know; the gateway will look
  }
  return { width: image.naturalWidth, height: image.naturalHeight };
}
