// Reading from the gateway: once, again and again, or page by page as somebody scrolls.

import { useEffect, useRef, useState } from "../shared/view.js";

/** Reads `path`, again whenever it changes and every `every` ms; keeps what it has while it reads. */
export function useRead(api, path, { every } = {}) {
  const [state, setState] = useState({ data: null, problem: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    const stop = new AbortController();
    let timer;
    const load = async () => {
      try {
        const data = await api.get(path, { signal: stop.signal });
        setState({ data, problem: null, path });
      } catch (problem) {
        if (problem.name === "AbortError") return;
        setState((earlier) => ({ ...earlier, problem }));
      }
      if (every) timer = setTimeout(again, every);
    };
    const again = () => (document.hidden ? (timer = setTimeout(again, every)) : load());
    load();
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [path, round, every]);
  const own = state.path === path;
  return {
    data: own ? state.data : null,
    problem: state.problem,
    reload: () => setRound((n) => n + 1),
  };
}

const NONE = { rows: [], cursor: null };

/** Reads a list page by page: `more()` reads the next one, if there is one. `path` has a query; rows of another are not shown. */
export function usePages(api, path) {
  const [state, setState] = useState(NONE);
  const [busy, setBusy] = useState(false);
  const run = useRef(null);
  const load = async (cursor, { quiet = false } = {}) => {
    run.current?.abort();
    const stop = (run.current = new AbortController());
    if (!quiet) setBusy(true);
    const url = cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path;
    try {
      const page = await api.get(url, { signal: stop.signal });
      setState((earlier) => ({
        rows: cursor ? [...earlier.rows, ...page.data] : page.data,
        cursor: page.next_cursor,
        path,
      }));
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setState((earlier) => ({ ...earlier, cursor: cursor ? earlier.cursor : null, problem }));
    }
    setBusy(false);
  };
  useEffect(() => {
    load(null);
    return () => run.current?.abort();
  }, [path]);
  const own = state.path === path;
  const { rows, cursor } = own ? state : NONE;
  const { problem } = state;
  return {
    rows,
    cursor,
    problem,
    busy: busy || !(own || problem),
    more: () => cursor && !busy && !problem && load(cursor),
    retry: () => load(rows.length ? cursor : null),
    reload: (options) => load(null, options),
  };
}

/** Calls `onSeen` while the element of the ref it gives is in view, or nearly. */
export function useSeen(onSeen, deps) {
  const ref = useRef(null);
  const latest = useRef(onSeen);
  latest.current = onSeen;
  useEffect(() => {
    const watcher = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && latest.current(),
      { rootMargin: "600px" },
    );
    if (ref.current) watcher.observe(ref.current);
    return () => watcher.disconnect();
  }, deps);
  return ref;
}

/** An act that can fail: `[run, busy, problem]`; run gives whether it went well. */
export function useAct(act) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const run = async (...given) => {
    setBusy(true);
    setProblem(null);
    try {
      await act(...given);
      return true;
    } catch (error) {
      setProblem(error);
      return false;
    } finally {
      setBusy(false);
    }
  };
  return [run, busy, problem];
}
