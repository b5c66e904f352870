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
const REFRESH_MS = 5000;
const FEW = 100; // rows that are read anew again and again
const TOP = 36; // px that may be scrolled while they are

/** Reads a list page by page, or `all` at once: `more()` reads the next page, if there is one. `path` has a query; rows of
 * another path are not shown. Who looks at its beginning, and at no dialog, sees what others change there. */
export function usePages(api, path, { all = false } = {}) {
  const [state, setState] = useState(NONE);
  const [busy, setBusy] = useState(false);
  const run = useRef(null);
  const own = state.path === path;
  const { rows, cursor } = own ? state : NONE;
  const { problem } = state;
  const load = async (from, { quiet = false } = {}) => {
    run.current?.abort();
    const { signal } = (run.current = new AbortController());
    const least = all ? Infinity : from ? 1 : rows.length; // as many as are shown, so that the list stays where it was scrolled to
    if (!quiet) setBusy(true);
    try {
      const read = [];
      let next = from;
      do {
        const page = await api.get(next ? `${path}&cursor=${encodeURIComponent(next)}` : path, { signal });
        read.push(...page.data);
        next = page.next_cursor;
      } while (next && read.length < least);
      setState((earlier) => ({ rows: from ? [...earlier.rows, ...read] : read, cursor: next, path }));
    } catch (error) {
      if (error.name === "AbortError") return;
      setState((earlier) => ({ ...earlier, cursor: from, problem: error }));
    }
    run.current = null;
    setBusy(false);
  };
  useEffect(() => {
    load(null);
    return () => run.current?.abort();
  }, [path]);
  useEffect(() => {
    // An answer that takes longer than this is waited for.
    const isDue = () => !run.current && !document.hidden && scrollY < TOP && !document.querySelector("dialog[open]");
    const timer = !all && rows.length <= FEW && setInterval(() => isDue() && load(null, { quiet: true }), REFRESH_MS);
    return () => clearInterval(timer);
  }, [path, rows]);
  return {
    rows,
    cursor,
    problem,
    busy: busy || !(own || problem),
    more: () => cursor && !busy && !problem && load(cursor),
    retry: () => load(cursor),
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
    watcher.observe(ref.current);
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
