// The API page: reads /openapi.json of this gateway and lets one try each GET. No library, no other host.
const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const resolve = (spec, schema) =>
  schema?.$ref ? schema.$ref.slice(2).split('/').reduce((node, step) => node[step], spec) : schema;

const kind = (spec, schema) => {
  const s = resolve(spec, schema) ?? {};
  if (s.enum) return s.enum.join(' | ');
  if (s.anyOf) return s.anyOf.map((part) => kind(spec, part)).join(' or ');
  if ('const' in s) return JSON.stringify(s.const);
  const range = [s.minimum, s.maximum].some((x) => x !== undefined) ? ` ${s.minimum ?? ''} … ${s.maximum ?? ''}` : '';
  return `${s.type ?? ''}${range}${s.default !== undefined ? `, default ${s.default}` : ''}`;
};

const parameters = (spec, operation, inputs) => {
  const table = make('table');
  for (const p of operation.parameters) {
    const input = make('input', { value: p.required ? (p.example ?? '') : '', placeholder: p.example ?? '', spellcheck: false });
    input.setAttribute('aria-label', p.name);
    inputs.set(p.name, { input, where: p.in });
    table.append(make('tr', {},
      make('td', {}, make('code', { textContent: p.name + (p.required ? ' *' : '') })),
      make('td', { textContent: p.description }),
      make('td', {}, make('code', { textContent: kind(spec, p.schema) })),
      make('td', {}, input)));
  }
  return table;
};

const address = (path, inputs) => {
  const query = new URLSearchParams();
  let target = path;
  for (const [name, { input, where }] of inputs) {
    if (where === 'path') target = target.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(name, input.value);
  }
  return query.size ? `${target}?${query}` : target;
};

const STREAM_MS = 3000;
const MOST = 20000;

const attempt = async (url, out) => {
  out.hidden = false;
  out.textContent = `GET ${url}\n`;
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), STREAM_MS);
  try {
    const answer = await fetch(url, { signal: stop.signal });
    out.textContent += `${answer.status} ${answer.headers.get('content-type')}\n\n`;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (let part = await reader.read(); !part.done && text.length < MOST; part = await reader.read()) {
      text += part.value;
      out.textContent = `GET ${url}\n${answer.status} ${answer.headers.get('content-type')}\n\n${text.slice(0, MOST)}`;
    }
    if (answer.headers.get('content-type')?.includes('json')) {
      out.textContent = `GET ${url}\n${answer.status}\n\n${JSON.stringify(JSON.parse(text), null, 2).slice(0, MOST)}`;
    }
    stop.abort();
  } catch (error) {
    if (error.name !== 'AbortError') out.textContent += `\n${error}`;
    else out.textContent += `\n(closed after ${STREAM_MS / 1000} s)`;
  } finally {
    clearTimeout(timer);
  }
};

const section = (spec, path, method, operation) => {
  const inputs = new Map();
  const box = make('section', { id: operation.operationId });
  box.append(make('h2', {}, make('span', { className: 'method', textContent: method.toUpperCase() }), path));
  box.append(make('p', { textContent: operation.summary }));
  if (operation.parameters.length) box.append(parameters(spec, operation, inputs));
  const good = operation.responses['200'];
  const schema = resolve(spec, good?.content?.['application/json']?.schema);
  if (good) box.append(make('p', { textContent: good.description }));
  if (schema?.examples?.length) {
    box.append(make('details', {}, make('summary', { textContent: 'Example' }),
      make('pre', { textContent: JSON.stringify(schema.examples[0], null, 2) })));
  }
  const errors = Object.entries(operation.responses).filter(([status]) => status >= 300);
  box.append(make('p', { textContent: errors.map(([status, { description }]) => `${status} ${description}`).join(' · ') }));
  if (method === 'get') {
    const out = make('pre', { hidden: true });
    const button = make('button', { type: 'button', textContent: 'Try' });
    button.addEventListener('click', () => attempt(address(path, inputs), out));
    box.append(button, out);
  }
  return box;
};

const events = (spec) => {
  const box = make('section', { id: 'events' }, make('h2', { textContent: 'Events of a stream' }));
  for (const name of ['hello', 'snapshot', 'delta', 'bbo', 'trade', 'mbo', 'bar', 'status', 'heartbeat', 'bye']) {
    const schema = spec.components.schemas[name];
    box.append(make('h3', { textContent: name }), make('p', { textContent: schema.description }),
      make('pre', { textContent: JSON.stringify(schema.examples[0], null, 1) }));
  }
  return box;
};

const spec = await (await fetch('/openapi.json')).json();
document.querySelector('#title').textContent = `mbostream API ${spec.info.version}`;
document.querySelector('#about').textContent = spec.info.description;
const index = document.querySelector('#index');
const main = document.querySelector('#operations');
for (const [path, methods] of Object.entries(spec.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    index.append(make('li', {}, make('a', { href: `#${operation.operationId}`, textContent: path })));
    main.append(section(spec, path, method, operation));
  }
}
index.append(make('li', {}, make('a', { href: '#events', textContent: 'Events' })));
main.append(events(spec));
