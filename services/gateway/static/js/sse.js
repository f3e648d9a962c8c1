/**
 * Server-Sent Events over fetch. Not EventSource: fetch shows the problem of a 4xx, lets us choose when to come back, and
 * its reader gives back-pressure, so that a page that cannot keep up is conflated by the gateway instead of growing.
 */
export class SseParser {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.buffer = "";
    this.lastId = null;
    this.retry = null;
  }

  push(text) {
    this.buffer += text;
    if (this.buffer.includes("\r")) this.buffer = this.buffer.replace(/\r\n?/g, "\n");
    let from = 0;
    for (;;) {
      const end = this.buffer.indexOf("\n\n", from);
      if (end < 0) break;
      this.block(this.buffer.slice(from, end));
      from = end + 2;
    }
    this.buffer = this.buffer.slice(from);
  }

  block(text) {
    let event = "message";
    let payload = null;
    let id = null;
    for (const line of text.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      let value = colon < 0 ? "" : line.slice(colon + 1);
      if (value.charCodeAt(0) === 32) value = value.slice(1);
      if (field === "data") payload = payload === null ? value : `${payload}\n${value}`;
      else if (field === "event") event = value;
      else if (field === "id") id = value;
      else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    }
    if (payload !== null) this.onEvent(event, JSON.parse(payload));
    if (id !== null) this.lastId = id;
  }
}

export class HttpProblem extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

export async function problemOf(response) {
  let problem = { title: response.statusText || `HTTP ${response.status}`, detail: "" };
  try {
    const body = await response.json();
    if (body && typeof body === "object") problem = body;
  } catch {
    // not a problem document: a proxy's page, say; the status line is all there is
  }
  return new HttpProblem(response.status, problem);
}

/** Reads the stream to its end. Resolves when the server closed it; throws HttpProblem, TypeError (network) or AbortError. */
export async function readSse(url, { signal, parser, onOpen, onChunk }) {
  const response = await fetch(url, { signal, headers: { accept: "text/event-stream" }, cache: "no-store" });
  if (!response.ok) throw await problemOf(response);
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("text/event-stream")) throw new HttpProblem(502, { detail: `expected an event stream, got ${type || "nothing"}: is this a gateway?` });
  onOpen?.();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    parser.push(decoder.decode(value, { stream: true }));
    const wait = onChunk?.(value.byteLength);
    if (wait) await wait;
  }
}
