import { el } from "./dom.js";
export class Pipeline {
  constructor(root) {
    root.append(el("p", {}, "pipeline"));
  }

  destroy() {}
}
