// Whether AsyncAPI's own parser takes a document: node asyncapi.cjs FOLDER DOCUMENT, where FOLDER holds node_modules.
// What it objects to is printed, a line each; exit status 1 if that is an error or a warning.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");

const [folder, document] = process.argv.slice(2);
const { Parser } = createRequire(`${folder}/`)("@asyncapi/parser");

new Parser().parse(readFileSync(document, "utf8")).then(({ document: parsed, diagnostics }) => {
  const objections = diagnostics.filter(({ severity }) => severity <= 1);
  for (const { code, message, path } of objections) {
    console.log(`${code}: ${message} (${path.join("/")})`);
  }
  const operations = parsed ? parsed.allOperations().length : 0;
  console.log(`${operations} operations`);
  process.exitCode = objections.length || !operations ? 1 : 0;
});
