// Drop or choose files, send them with their progress shown, and go to where they are analysed.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const form = at("try");
  let chosen = [];

  function choose(files) {
    chosen = files;
    const size = files.reduce((sum, file) => sum + file.size, 0);
    const what = files.length === 1 ? files[0].name : `${files.length} files`;
    at("chosen").textContent = files.length ? `${what}, ${(size / 1e6).toFixed(1)} MB` : "";
    at("refusal").textContent = "";
  }
  for (const id of ["files", "folder"]) {
    at(id).addEventListener("change", (event) => {
      at(id === "files" ? "folder" : "files").value = "";
      choose([...event.target.files]);
    });
  }

  // What is dropped may be a folder
  const reads = (reader) => new Promise((done, failed) => reader.readEntries(done, failed));
  async function within(entry) {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const found = [];
    const reader = entry.createReader();
    for (let some = await reads(reader); some.length; some = await reads(reader)) {
      for (const each of some) found.push(...(await within(each)));
    }
    return found;
  }
  const drop = at("drop");
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? (await Promise.all(entries.map(within))).flat() : [...event.dataTransfer.files];
    choose(files);
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!chosen.length) { at("refusal").textContent = "Choose a file first."; at("files").focus(); return; }
    const body = new FormData();
    body.append("bundle", new FormData(form).get("bundle"));
    for (const file of chosen) body.append("files", file, file.name);
    const request = new XMLHttpRequest(); // fetch does not tell how much was sent
    request.open("POST", "/try");
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("x-csrf-token", form.elements.csrf?.value || "");
    request.responseType = "json";
    request.upload.addEventListener("progress", (now) => {
      at("bar").value = now.total ? now.loaded / now.total : 0;
      at("how-far").textContent = now.loaded === now.total ? "looking at the files" : `${(now.loaded / 1e6).toFixed(1)} of ${(now.total / 1e6).toFixed(1)} MB sent`;
    });
    const refuse = (text) => { at("refusal").textContent = text; at("sending").hidden = true; at("go").disabled = false; };
    request.addEventListener("load", () => {
      if (request.status === 200) location.assign(request.response.address);
      else refuse(request.response?.error || "The node did not take the files.");
    });
    request.addEventListener("error", () => refuse("The node does not answer, or the files are too large."));
    at("sending").hidden = false;
    at("go").disabled = true;
    at("refusal").textContent = "";
    request.send(body);
  });
})();
