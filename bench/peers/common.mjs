// What the drivers of all peers share, with the definitions of `gig bench`: `ack_N` is a closed loop of 256-byte payloads with N
// in flight until the peer acknowledges; `prop` is from a write on one connection to the callback on another, one at a time;
// `get_cold_N` is the first read of a log of N operations by a client that is connected. Rows are `name value unit`.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const short = process.env.BENCH_SHORT === "1";
const seconds = short ? 0.5 : 5;
const opsMax = short ? 2_000 : 100_000;
const warmUpOps = 200;
const propagations = short ? 20 : 500;
const betweenMs = 2;
const readings = short ? 2 : 5;
const deadlineMs = 10_000;

// Operations of the log that is read.
export const readLog = short ? 1_000 : 10_000;

// A folder on the disk that is measured, which goes when the driver ends.
export const folder = mkdtempSync(path.join(process.env.BENCH_DATA || tmpdir(), "gigfs-peer-"));
const servers = [];
process.on("exit", () => {
  for (const server of servers) server.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

// Returns a payload of 256 bytes of JSON.
export function payload(number) {
  const op = { i: number, t: 1_700_000_000_000, s: "" };
  op.s = "x".repeat(256 - JSON.stringify(op).length);
  return JSON.stringify(op);
}

// Returns a port that nobody listens on.
export async function freePort() {
  const server = net.createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

// Starts a server, and waits until it takes connections.
export async function start(command, args, port, environment = {}) {
  const log = openSync(path.join(folder, "log"), "a");
  const env = { ...process.env, ...environment };
  const server = spawn(command, args, { stdio: ["ignore", log, log], env });
  servers.push(server);
  const failed = new Promise((_, reject) => server.on("error", reject));
  const late = Date.now() + deadlineMs;
  while (!(await Promise.race([accepts(port), failed]))) {
    if (Date.now() > late) throw new Error(`${command} does not take connections on port ${port}`);
    await sleep(20);
  }
}

function accepts(port) {
  return new Promise((done) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("connect", () => (socket.destroy(), done(true)));
    socket.on("error", () => done(false));
  });
}

// Measures `write(number, inFlight)`, which resolves when the peer has acknowledged.
export async function acknowledgements(peer, write) {
  for (const inFlight of [1, 64, 1024]) {
    const one = (number) => write(number, inFlight);
    await load(one, inFlight, warmUpOps);
    const { times, took } = await load(one, inFlight, opsMax);
    row(`${peer}_ack_${inFlight}_ops`, (times.length * 1000) / took, "ops/s");
    percentiles(`${peer}_ack_${inFlight}`, times);
  }
}

async function load(write, inFlight, ops) {
  const times = [];
  const begun = performance.now();
  let next = 0;
  const loop = async () => {
    while (next < ops && performance.now() - begun < seconds * 1000) {
      const number = next++;
      const started = performance.now();
      await write(number);
      times.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return { times, took: performance.now() - begun };
}

// Measures how long it takes from `write(number)` until the subscriber calls `told(number)`.
export function propagation(peer) {
  const waiting = new Map();
  const told = (number) => {
    waiting.get(number)?.(performance.now());
    waiting.delete(number);
  };
  const measure = async (write) => {
    const times = [];
    for (let at = 0; at < propagations; at++) {
      const number = 1_000_000 + at;
      const heard = new Promise((resolve) => waiting.set(number, resolve));
      const started = performance.now();
      const written = write(number);
      const late = sleep(deadlineMs, null, { ref: false });
      const when = await Promise.race([heard, late]);
      if (when === null) throw new Error(`${peer} did not tell of a write`);
      times.push(when - started);
      await written;
      await sleep(betweenMs);
    }
    percentiles(`${peer}_prop`, times);
  };
  return { told, measure };
}

// Measures `read()`, which resolves to how long the first read of `readLog` operations took, and how many bytes were sent for it.
export async function coldReads(peer, read) {
  const times = [];
  let sent;
  for (let at = 0; at < readings; at++) {
    const { took, bytes } = await read();
    times.push(took);
    sent = bytes;
  }
  row(`${peer}_get_cold_${readLog}_ms`, percentile(times, 50), "ms");
  row(`${peer}_get_cold_${readLog}_bytes`, sent, "bytes");
}

function percentiles(name, times) {
  row(`${name}_p50`, percentile(times, 50) * 1000, "us");
  row(`${name}_p99`, percentile(times, 99) * 1000, "us");
}

function percentile(times, hundredths) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * hundredths) / 100))];
}

function row(name, value, unit) {
  console.log(`${name} ${value.toFixed(value >= 100 ? 0 : 2)} ${unit}`);
}
