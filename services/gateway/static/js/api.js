import { problemOf } from "./sse.js";

/** The REST side. Paths are relative to the page, so the page also works below a prefix. Throws HttpProblem. */
export function apiUrl(path, query = {}) {
  const url = new URL(`v1/${path}`, document.baseURI);
  url.hash = "";
  for (const [key, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") url.searchParams.set(key, value);
  return url.href.replaceAll("%2C", ",").replaceAll("%3A", ":");
}

export async function get(path, query, { signal } = {}) {
  const response = await fetch(apiUrl(path, query), { signal, headers: { accept: "application/json" } });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

export async function post(path, body) {
  const response = await fetch(apiUrl(path), { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** Path segment of a symbol: "XNAS.ITCH:AAPL" keeps its colon. */
export function segment(text) {
  return encodeURIComponent(text).replaceAll("%3A", ":");
}
