/** Drag, wheel, pinch and keys of a chart → pan(dx, dy), zoom(factor, x, y, price), point({x, y} | null), home(). */
export function gestures(element, chart) {
  const pointers = new Map();
  let pinch = null;
  const place = (event) => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const handlers = {
    wheel(event) {
      event.preventDefault();
      const { x, y } = place(event);
      const delta = event.deltaMode ? event.deltaY * 30 : event.deltaY;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && !event.shiftKey) chart.pan(-event.deltaX, 0);
      else chart.zoom(Math.exp(((event.shiftKey && !delta ? event.deltaX : delta) || 0) * 0.0016), x, y, event.shiftKey);
    },
    pointerdown(event) {
      if (event.button) return;
      element.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      pinch = null;
    },
    pointermove(event) {
      const at = place(event);
      if (event.pointerType === "mouse" || pointers.size === 0) chart.point(at);
      const old = pointers.get(event.pointerId);
      if (!old) return;
      pointers.set(event.pointerId, at);
      if (pointers.size === 1) chart.pan(at.x - old.x, at.y - old.y);
      else if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const now = { dx: Math.abs(a.x - b.x) + 20, dy: Math.abs(a.y - b.y) + 20, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
        if (pinch) {
          chart.zoom(pinch.dx / now.dx, now.x, now.y, false);
          chart.zoom(pinch.dy / now.dy, now.x, now.y, true);
        }
        pinch = now;
      }
    },
    pointerup(event) {
      pointers.delete(event.pointerId);
      pinch = null;
    },
    pointercancel(event) {
      pointers.delete(event.pointerId);
      pinch = null;
    },
    pointerleave() {
      chart.point(null);
    },
    dblclick() {
      chart.home();
    },
    keydown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const w = element.clientWidth;
      const h = element.clientHeight;
      const pans = { ArrowLeft: [w / 8, 0], ArrowRight: [-w / 8, 0], ArrowUp: [0, h / 10], ArrowDown: [0, -h / 10] };
      if (pans[event.key] && !event.shiftKey) chart.pan(...pans[event.key]);
      else if (event.key === "ArrowUp") chart.zoom(0.8, w / 2, h / 2, true);
      else if (event.key === "ArrowDown") chart.zoom(1.25, w / 2, h / 2, true);
      else if (event.key === "+" || event.key === "=") chart.zoom(0.8, w / 2, h / 2, false);
      else if (event.key === "-") chart.zoom(1.25, w / 2, h / 2, false);
      else if (event.key === "Home") chart.home();
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  };
  for (const [name, call] of Object.entries(handlers)) element.addEventListener(name, call, { passive: false });
  return () => {
    for (const [name, call] of Object.entries(handlers)) element.removeEventListener(name, call);
  };
}
