/** Dark, light or as the system says; and the colours of css/tokens.css for the canvases. */
const dark = window.matchMedia("(prefers-color-scheme: dark)");
export const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
export const colors = {};
export const heat = new Uint32Array(256);

export function applyTheme(choice) {
  const theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
  document.documentElement.dataset.theme = theme;
  const style = getComputedStyle(document.documentElement);
  for (const name of ["bg", "panel", "raised", "hover", "line", "line-strong", "text", "muted", "faint", "accent", "accent-soft", "on-accent",
    "bid", "bid-soft", "ask", "ask-soft", "warn", "bad", "good", "mono", "sans"])
    colors[name.replace(/-(.)/g, (_, c) => c.toUpperCase())] = style.getPropertyValue(`--${name}`).trim();
  const stops = [0, 1, 2, 3, 4, 5, 6].map((i) => rgb(style.getPropertyValue(`--heat-${i}`).trim()));
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(x), stops.length - 2);
    const f = x - low;
    const [r, g, b] = stops[low].map((v, k) => Math.round(v + (stops[low + 1][k] - v) * f));
    heat[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  document.dispatchEvent(new Event("themechange"));
}

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

export function watchSystemTheme(current) {
  dark.addEventListener("change", () => applyTheme(current()));
}
