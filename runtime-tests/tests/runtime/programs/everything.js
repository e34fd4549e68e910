// What Node programs do: event loop, worker threads, files, streams, child processes, HTTP, watching, crypto.
const assert = require("assert");
const { Worker } = require("worker_threads");
const { execFileSync, fork } = require("child_process");
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const os = require("os");
const path = require("path");

if (process.argv[2] === "child") {
  process.send("ready");
  process.disconnect();
} else {
  main();
}

async function main() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "everything-"));
  await fs.promises.writeFile(path.join(directory, "file"), "x".repeat(1 << 20));
  await fs.promises.copyFile(path.join(directory, "file"), path.join(directory, "copy"));
  assert.strictEqual((await fs.promises.readFile(path.join(directory, "copy"))).length, 1 << 20);
  const seen = new Promise((resolve) => fs.watch(directory, resolve));
  fs.writeFileSync(path.join(directory, "watched"), "");
  await seen.then(() => {});
  const worker = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
  assert.strictEqual(await new Promise((resolve) => worker.once("message", resolve)), 42);
  assert.strictEqual(execFileSync("bash", ["-c", "echo hello"]).toString(), "hello\n");
  const child = fork(__filename, ["child"]);
  assert.strictEqual(await new Promise((resolve) => child.once("message", resolve)), "ready");
  const server = http.createServer((_, response) => response.end("served"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const answer = await new Promise((resolve) => http.get({ port: server.address().port, host: "127.0.0.1" }, resolve));
  let body = "";
  for await (const part of answer) body += part;
  assert.strictEqual(body, "served");
  await new Promise((resolve) => crypto.scrypt("a", "b", 32, resolve));
  os.cpus();
  os.networkInterfaces();
  server.close();
  console.log("all of it");
  process.exit(0);
}
