"use strict";
// Usage: node compile.cjs NODE_MODULES JOB.json OUT.json
// JOB: {compiler, settings, remappings: {prefix: folder}, contracts: {source: [name, ...]}}
// OUT: {name: {abi, bytecode, links: [[file, library, [byte offsets]], ...]}}
const fs = require("fs");
const path = require("path");

const [modules, jobPath, outPath] = process.argv.slice(2);
const job = JSON.parse(fs.readFileSync(jobPath, "utf8"));
const solc = require(path.join(modules, job.compiler));

function read(name) {
  for (const [prefix, folder] of Object.entries(job.remappings)) {
    if (name.startsWith(prefix)) {
      name = folder + name.slice(prefix.length);
      break;
    }
  }
  try {
    return { contents: fs.readFileSync(path.join(modules, name), "utf8") };
  } catch (error) {
    return { error: error.message };
  }
}

const sources = {};
for (const source of Object.keys(job.contracts)) sources[source] = { content: read(source).contents };
const outputSelection = {};
for (const [source, names] of Object.entries(job.contracts)) {
  outputSelection[source] = Object.fromEntries(names.map((n) => [n, ["abi", "evm.bytecode"]]));
}
const input = { language: "Solidity", sources, settings: { ...job.settings, outputSelection } };
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
const errors = (output.errors || []).filter((e) => e.severity === "error");
if (errors.length) {
  process.stderr.write(errors.map((e) => e.formattedMessage).join("\n"));
  process.exit(1);
}
const artifacts = {};
for (const [source, names] of Object.entries(job.contracts)) {
  for (const name of names) {
    const { abi, evm } = output.contracts[source][name];
    const links = [];
    for (const [file, libraries] of Object.entries(evm.bytecode.linkReferences)) {
      for (const [library, places] of Object.entries(libraries)) {
        links.push([file, library, places.map((p) => p.start)]);
      }
    }
    artifacts[name] = { abi, bytecode: evm.bytecode.object, links };
  }
}
fs.writeFileSync(outPath, JSON.stringify(artifacts));
