import { post } from "./api.js";
import { dialog } from "./dialog.js";
import { el } from "./dom.js";

/** Asks for an API key when the gateway wants one; the gateway answers with an HttpOnly cookie, nothing is kept here. */
export class Login {
  constructor(app, onDone) {
    this.key = el("input", { type: "password", name: "key", required: true, autocomplete: "current-password", placeholder: "API key", "aria-label": "API key" });
    this.error = el("p", { class: "error", role: "alert" });
    this.box = dialog("login", "Log in", el("form", { class: "form", on: { submit: (e) => this.submit(e) } },
      el("p", { class: "dim" }, "This gateway wants an API key. The operator makes one with “mbo keys”."), this.key, this.error,
      el("div", { class: "actions" }, el("button", { class: "button primary" }, "Log in"))));
    this.onDone = onDone;
    app.on("connection", (c) => c.reason === "http-401" && this.open());
  }

  open() {
    if (!this.box.open) this.box.showModal();
    this.key.focus();
  }

  async submit(event) {
    event.preventDefault();
    this.error.textContent = "";
    try {
      await post("login", { key: this.key.value });
      this.key.value = "";
      this.box.close();
      this.onDone();
    } catch (error) {
      this.error.textContent = error.message;
    }
  }
}
