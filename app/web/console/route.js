// Where the console is: a path and a query behind the `#`, so that views can be shared and gone back to.

import { useEffect, useState } from "../shared/view.js";

function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path || "overview", query: Object.fromEntries(new URLSearchParams(query || "")) };
}

export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const changed = ({ oldURL }) => {
      // A history entry without a state is new: it remembers where it was reached from.
      if (!history.state) history.replaceState({ from: new URL(oldURL).hash }, "");
      setRoute(read());
    };
    if (!history.state) history.replaceState({}, "");
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** The address of a view; parameters without a value are left out. */
export function to(path, query = {}) {
  const text = queryOf(query);
  return `#/${path}${text && `?${text}`}`;
}

export function queryOf(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given).toString();
}

/** Changes what is shown in place: going back leaves the view, not the last keystroke. */
export function replace(path, query) {
  history.replaceState(history.state, "", to(path, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Goes back to a view from what was opened there, or else puts the view in its place. */
export function close(path, query) {
  if (history.state.from === to(path, query)) history.back();
  else replace(path, query);
}
