/** A canvas that fills its element at device resolution; `dirty` after a resize or a theme change. */
export class Canvas {
  constructor(element) {
    this.element = element;
    this.context = element.getContext("2d");
    this.width = 0;
    this.height = 0;
    this.dirty = true;
    this.visible = true;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(element);
    this.redraw = () => (this.dirty = true);
    document.addEventListener("themechange", this.redraw);
    this.fit();
  }

  destroy() {
    this.observer.disconnect();
    document.removeEventListener("themechange", this.redraw);
  }

  fit() {
    const box = this.element.getBoundingClientRect();
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.visible = box.width > 4 && box.height > 4;
    const width = Math.round(box.width);
    const height = Math.round(box.height);
    if (width === this.width && height === this.height && ratio === this.ratio) return;
    Object.assign(this, { width, height, ratio, dirty: true });
    this.element.width = Math.round(width * ratio);
    this.element.height = Math.round(height * ratio);
  }

  begin() {
    const c = this.context;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    return c;
  }
}
