/** Identity of an open instrument: what to subscribe to, and of which venue (null: all). */
export const tabKey = (tab) => `${tab.spec}@${tab.publisher ?? "*"}`;

/** Does this view of `hello` belong to the tab? A spec is SYMBOL, DATASET:SYMBOL, an id or DATASET:id. */
export function matches(tab, v) {
  if ((tab.publisher ?? null) !== (v.publisher_id ?? null)) return false;
  const { spec } = tab;
  return spec === v.symbol || spec === `${v.dataset}:${v.symbol}` || spec === String(v.instrument_id) || spec === `${v.dataset}:${v.instrument_id}`;
}

/** Forgets the instruments whose tab is closed. */
export function keepOpen(instruments, tabs) {
  const open = new Set(tabs.map(tabKey));
  for (const key of [...instruments.keys()]) if (!open.has(key)) instruments.delete(key);
}
