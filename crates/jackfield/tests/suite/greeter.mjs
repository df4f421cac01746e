#!/usr/bin/env node
// A greeter without an SDK, for the tests that run Node.js as a program.
import { createInterface } from "node:readline";

const hello = {
  protocol: "1.0",
  plugin: { name: "greeter-node", version: "1.0.0" },
  interfaces: ["demo:greeter/greeter@1.0.0"],
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue;
  const result = method === "jackfield/hello" ? hello : `Hello, ${params.name}!`;
  process.stdout.write(JSON.stringify({ id, result }) + "\n");
}
