// The form of an appliance's page: values for first boot -> the ISO that "slipway fetch --set" writes, byte for byte.
// Nothing is sent anywhere. src/slipway/seeds/seed.py and src/slipway/seeds/iso9660.py say what each part is.
"use strict";

const seedForm = document.querySelector("#seed");

if (seedForm && globalThis.crypto?.subtle) {
  const sector = 2048;
  const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const zeros = (count) => new Uint8Array(count);
  const blanks = (count) => ascii(" ".repeat(count));
  const join = (...parts) => {
    const whole = zeros(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  };
  const little = (value, size) => Uint8Array.from({ length: size }, (_, at) => (value >>> (8 * at)) & 255);
  const big = (value, size) => little(value, size).reverse();
  const both = (value, size) => join(little(value, size), big(value, size));
  const sectors = (data) => Math.ceil(data.length / sector);
  const padded = (data) => join(data, zeros(sectors(data) * sector - data.length));

  const record = (identifier, place, size, flags, susp = zeros(0)) => {
    const name = ascii(identifier);
    const pad = zeros(name.length % 2 ? 0 : 1);
    return join(
      Uint8Array.of(33 + name.length + pad.length + susp.length, 0), both(place, 4), both(size, 4),
      Uint8Array.of(80, 1, 1, 0, 0, 0, 0, flags, 0, 0), both(1, 2), Uint8Array.of(name.length), name, pad, susp,
    );
  };
  const entry = (kind, data) => join(ascii(kind), Uint8Array.of(4 + data.length, 1), data);
  const posix = (mode, links) => entry("PX", join(...[mode, links, 0, 0].map((value) => both(value, 4))));

  const iso = (volume, files) => {
    const folder = 0o040500;
    let directory = join(
      record("\0", 21, sector, 2, join(
        entry("SP", Uint8Array.of(0xbe, 0xef, 0)), posix(folder, 2), entry("ER", ascii("\x0a\0\0\x01RRIP_1991A")),
      )),
      record("\x01", 21, sector, 2, posix(folder, 2)),
    );
    let place = 22;
    for (const [identifier, name, data] of files) {
      const susp = join(entry("NM", ascii(`\0${name}`)), posix(0o100400, 1));
      directory = join(directory, record(identifier, place, data.length, 0, susp));
      place += sectors(data);
    }
    const paths = (order) => join(Uint8Array.of(1, 0), order(21, 4), order(1, 2), zeros(2));
    const day = ascii("1980010100000000\0");
    const never = ascii("0000000000000000\0");
    const descriptor = join(
      ascii("\x01CD001\x01\0"), blanks(32), ascii(volume.padEnd(32)), zeros(8), both(place, 4), zeros(32), both(1, 2),
      both(1, 2), both(sector, 2), both(10, 4), little(19, 4), zeros(4), big(20, 4), zeros(4),
      record("\0", 21, sector, 2), blanks(623), day, day, never, never, Uint8Array.of(1, 0),
    );
    return join(
      zeros(16 * sector),
      ...[descriptor, join(ascii("\xffCD001\x01"), zeros(sector)), paths(little), paths(big), directory, ...files.map((each) => each[2])].map(padded),
    );
  };

  // JSON that is YAML, too, and no message, with sorted names.
  const json = (data) => JSON.stringify(data, (_, value) => (
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.keys(value).sort().map((name) => [name, value[name]]))
      : value
  )).replace(/[\ufffe\uffff]|(?<=mime-version):/gi, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const utf8 = (text) => new TextEncoder().encode(text);

  const seed = async (appliance, release, parameters) => {
    const digest = await crypto.subtle.digest("SHA-256", utf8(json({ appliance, parameters, release })));
    const id = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const about = { appliance, parameters: Object.keys(parameters).sort(), release, secrets: [] };
    return {
      id,
      bytes: iso("cidata", [
        ["META_DAT.;1", "meta-data", utf8(`instance-id: slipway-${id}\nslipway: ${json(about)}\n`)],
        ["USER_DAT.;1", "user-data", utf8(`#cloud-config\nslipway: ${json({ parameters })}\n`)],
      ]),
    };
  };

  // What the patterns of the fields leave open: no control character, no half of a character.
  const unfit = /[\x00-\x1f\x7f-\x9f\u2028\u2029]|\p{Surrogate}/u;
  const said = seedForm.querySelector("output");
  let made = "";

  seedForm.addEventListener("input", (event) => {
    said.replaceChildren(); // a seed of other values is none of these
    event.target.setCustomValidity(unfit.test(event.target.value) ? "No control characters" : "");
  });
  seedForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    const parameters = {};
    for (const field of seedForm.elements) {
      const given = field.tagName === "SELECT" ? field.selectedIndex > 0 : field.value !== "";
      if (field.name && given) parameters[field.name] = field.value;
    }
    if (!Object.keys(parameters).length) {
      said.textContent = "Fill in a field first.";
      return;
    }
    const { appliance, release, architecture } = seedForm.dataset;
    const { id, bytes } = await seed(appliance, release, parameters);
    URL.revokeObjectURL(made);
    made = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    const link = document.createElement("a");
    link.className = "button";
    link.href = made;
    link.download = `${appliance}-${release}.${architecture}.seed.iso`;
    link.textContent = link.download;
    const text = document.createElement("code");
    text.className = "hash";
    text.textContent = id;
    said.replaceChildren(link, " Its id: ", text);
  });
  seedForm.closest("[hidden]").hidden = false;
}
