/**
 * Exact prices. On the wire a price is a decimal string whose unit is 1e-9; here it is a BigInt of that unit, never a
 * float: 64.77 and 9007199254.740993 are both exact. Rows of a grid (grid.js) are Numbers, prices are not.
 */
const DIGITS = 9;
const UNIT = 10n ** BigInt(DIGITS);

/** "64.77" → 64770000000n. Throws SyntaxError for anything but a plain decimal of at most 9 places. */
export function parsePrice(text) {
  const negative = text.charCodeAt(0) === 45;
  const point = text.indexOf(".");
  if (point < 0) return BigInt(text) * UNIT;
  const places = text.length - point - 1;
  if (places > DIGITS) throw new SyntaxError(`more than ${DIGITS} decimal places: ${text}`);
  const whole = BigInt(text.slice(negative ? 1 : 0, point)) * UNIT;
  const rest = BigInt(text.slice(point + 1)) * 10n ** BigInt(DIGITS - places);
  return negative ? -(whole + rest) : whole + rest;
}

/** 64770000000n → "64.77" (no trailing zeros), or with exactly `places` decimals where that loses nothing. */
export function formatPrice(nanos, places = 0) {
  const abs = nanos < 0n ? -nanos : nanos;
  let fraction = (abs % UNIT).toString().padStart(DIGITS, "0").replace(/0+$/, "");
  if (fraction.length < places) fraction = fraction.padEnd(places, "0");
  return `${nanos < 0n ? "-" : ""}${abs / UNIT}${fraction ? `.${fraction}` : ""}`;
}

/** Decimal places that multiples of `tick` need. */
export function placesOf(tick) {
  const fraction = (tick % UNIT).toString().padStart(DIGITS, "0").replace(/0+$/, "");
  return tick % UNIT === 0n ? 0 : fraction.length;
}

export function gcd(a, b) {
  let x = a < 0n ? -a : a;
  let y = b < 0n ? -b : b;
  while (y) [x, y] = [y, x % y];
  return x;
}

/** For drawing and for averages only. */
export function toNumber(nanos) {
  return Number(nanos) / 1e9;
}

/** Division that rounds towards minus infinity (BigInt's rounds towards zero). */
export function floorDiv(a, b) {
  const q = a / b;
  return a % b !== 0n && a < 0n !== b < 0n ? q - 1n : q;
}
